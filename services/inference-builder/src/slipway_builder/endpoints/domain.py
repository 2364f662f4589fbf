"""What an endpoint's status is, from what is wanted and what is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipway_schemas.inference.statuses import EndpointStatus, ImageStatus

_S = EndpointStatus

PROBLEM_WORDS: Final[Mapping[str, str]] = {
    "image_pull": "The image cannot be pulled.",
    "crash_loop": "The server ends again and again.",
    "out_of_memory": "The server was ended because it used more memory than its limit.",
    "unschedulable": "No machine of the target has room for a replica.",
    "probe_failing": "The server runs, but nothing answers on its port.",
    "not_woken": "The endpoint is asleep, and nothing would wake it.",
    "quota_exceeded": "A quota of the target is used up.",
    "target_unreachable": "The target does not answer.",
    "refused": "The target refused the endpoint.",
}

_ASLEEP: Final = "100% - Asleep: the next request starts a replica."
_WAKING: Final = "100% - Waking up: a replica starts for the requests that wait."
_AWAY: Final = "The target does not answer; what serves goes on, and what is wanted now is caught up with afterwards"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that an endpoint's status follows from."""

    enabled: bool
    """At every level: deployment, version, endpoint."""
    image: ImageStatus
    image_detail: str
    settled: bool
    """Whether the target has been seen with what is wanted now."""
    wanted: int
    ready: int
    problem: str | None
    detail: str
    may_sleep: bool = False
    """No replica is needed while nobody asks: the endpoint scales to zero, and was ready once."""
    away: str = ""
    """Why the target does not answer now; all else is what it said last."""

    @property
    def serves(self) -> bool:
        """Whether requests are answered, at once or after one has woken a replica."""
        return self.ready > 0 or self.may_sleep


@dataclass(frozen=True, slots=True)
class Judgement:
    """Status and its words."""

    status: EndpointStatus
    detail: str


def judge(facts: Facts) -> Judgement:
    """The status of an endpoint (contract 4.3: the usable one reads "100% - Available")."""
    if not facts.enabled:
        return Judgement(_S.DISABLED, "Disabled: no replicas run, the image is kept.")
    match facts.image:
        case ImageStatus.WAITING | ImageStatus.BUILDING:
            return Judgement(_S.BUILDING_IMAGE, facts.image_detail or "The image is being built.")
        case ImageStatus.FAILED | ImageStatus.CANCELLED:
            return Judgement(_S.BUILD_FAILED, facts.image_detail)
        case ImageStatus.READY:
            pass
    judgement = _of_replicas(facts)
    if not facts.away:
        return judgement
    return Judgement(judgement.status, f"{judgement.detail.rstrip('.')}, as last seen. {_AWAY}: {facts.away}")


def _of_replicas(facts: Facts) -> Judgement:
    share = f"{100 * min(facts.ready, facts.wanted) // facts.wanted}%" if facts.wanted else "0%"
    trouble = facts.detail or PROBLEM_WORDS.get(facts.problem or "", "")
    if facts.settled and facts.may_sleep and facts.ready == 0 and facts.problem is None:
        return Judgement(_S.AVAILABLE, _WAKING if facts.wanted else _ASLEEP)
    if facts.settled and facts.wanted == 0 and facts.problem is None:
        return Judgement(_S.UNAVAILABLE, "No replicas are wanted: set the number of replicas to 1 or more.")
    if facts.ready and facts.problem:
        return Judgement(_S.DEGRADED, f"{share} - {trouble}")
    if facts.problem:
        return Judgement(_S.UNAVAILABLE, trouble)
    if facts.settled and facts.ready >= facts.wanted:
        return Judgement(_S.AVAILABLE, f"{share} - Available")
    return Judgement(_S.DEPLOYING, f"{share} - Deploying" + (f": {facts.detail}" if facts.detail else ""))
