"""What a router answers by itself, in the same words whichever engine serves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

PROBLEM_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="slipway"'


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal or a failure: status, stable code, and what the caller can do."""

    status: int
    code: str
    detail: str

    @property
    def body(self) -> str:
        """The JSON document."""
        return json.dumps({"status": self.status, "code": self.code, "detail": self.detail})


NO_ROUTE: Final = Answer(
    404,
    "endpoint_not_found",
    "No endpoint answers at this address. The form is /<owner>/<project>/<deployment>/<version or alias>/<endpoint>; "
    "the deployment's page shows the URLs that exist.",
)
KEY_MISSING: Final = Answer(
    401,
    "key_missing",
    "This endpoint needs a key. Send it as 'Authorization: Bearer <key>' or as 'X-Api-Key: <key>'; "
    "the deployment's owner gives out keys.",
)
KEY_REFUSED: Final = Answer(
    403,
    "key_refused",
    "This key does not open this deployment. Check that it is complete, meant for this deployment, and not revoked.",
)
KEY_EXPIRED: Final = Answer(403, "key_expired", "This key has expired. Ask the deployment's owner for a new one.")
KEY_SCOPE: Final = Answer(
    403,
    "key_out_of_scope",
    "This key is for other endpoints of the deployment. Ask its owner for one that covers this.",
)
RATE_LIMITED: Final = Answer(
    429,
    "rate_limited",
    "This key has used its requests of this minute. Retry-After says in how many seconds the next minute begins.",
)
NOT_AWAKE: Final = Answer(
    503,
    "endpoint_asleep",
    "The endpoint was asleep, and none of its replicas took this request in time. It was not carried out: try again. "
    "The endpoint's status and log on the version's page say how far a replica is.",
)
TRY_AGAIN_SECONDS: Final = 30
NO_BACKEND_DETAIL: Final = "No version serves this address now. The deployment's page says why."
FAILURES: Final[Mapping[int, Answer]] = MappingProxyType(
    {
        400: Answer(400, "request_invalid", "The request is not valid HTTP/1.1 and was not passed on."),
        408: Answer(408, "request_timeout", "The request's headers did not arrive in time."),
        500: Answer(500, "router_failed", "The router failed on this request; its log says why. Try again."),
        502: Answer(
            502,
            "endpoint_broke_off",
            "The endpoint's server closed the connection or gave no valid HTTP answer. Its log says why.",
        ),
        503: Answer(
            503,
            "endpoint_unreachable",
            "The endpoint's server takes no connections. Its status and log on the version's page say why.",
        ),
        504: Answer(504, "endpoint_timeout", "The endpoint's server did not answer in time. Its log may say why."),
    }
)
"""By status: what goes wrong between client, router and the endpoint's server."""


def no_backend(detail: str) -> Answer:
    """The answer of a route that has no backends."""
    return Answer(503, "endpoint_unavailable", detail or NO_BACKEND_DETAIL)
