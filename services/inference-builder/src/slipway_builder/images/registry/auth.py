"""How a registry lets us in: basic authentication, or tokens for single repositories."""

import base64
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from slipway_builder.images.protocol import RegistryAccess
from slipway_builder.images.registry.errors import ImageDenied, RegistryUnreachable
from slipway_kit.transfer import ClientSession

_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_DEFAULT_TOKEN_SECONDS: Final = 60.0
_EARLY_SECONDS: Final = 10.0
_MAX_TOKEN_BYTES: Final = 1024 * 1024

Scopes = frozenset[str]


def pull(repository: str) -> str:
    """The right to read a repository."""
    return f"repository:{repository}:pull"


def push(repository: str) -> str:
    """The right to read and write a repository."""
    return f"repository:{repository}:pull,push"


class Authenticator:
    """Headers for the calls to one registry. It learns how to authenticate from the first refusal."""

    def __init__(self, access: RegistryAccess) -> None:
        self._access = access
        self._basic = False
        self._realm: dict[str, str] | None = None
        self._tokens: dict[Scopes, tuple[str, float]] = {}

    async def headers(self, session: ClientSession, scopes: Scopes) -> dict[str, str]:
        """What to send for these rights; nothing before the registry has asked."""
        if self._basic:
            return self._password()
        if self._realm is not None:
            return {"Authorization": f"Bearer {await self._token(session, scopes)}"}
        return {}

    def challenged(self, refused: Iterable[str], sent: Mapping[str, str], scopes: Scopes) -> bool:
        """Learn from the `WWW-Authenticate` headers of a refusal; False when there is nothing new to try."""
        offers = {scheme.lower(): rest for scheme, _, rest in (one.partition(" ") for one in refused)}
        if "bearer" in offers:
            self._realm = dict(_PARAMETER.findall(offers["bearer"]))
            self._tokens.pop(scopes, None)
            return "realm" in self._realm
        if "basic" in offers and self._access.username is not None and not sent:
            self._basic = True
            return True
        return False

    def _password(self) -> dict[str, str]:
        if self._access.username is None:
            return {}
        pair = f"{self._access.username}:{self._access.password or ''}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    async def _token(self, session: ClientSession, scopes: Scopes) -> str:
        found = self._tokens.get(scopes)
        if found is not None and time.monotonic() < found[1]:
            return found[0]
        realm = self._realm or {}
        url = realm.get("realm", "")
        if urlsplit(url).scheme != "https" and not self._access.plain_http:
            raise ImageDenied(f"The registry {self._access.host} wants its password sent without TLS, to {url!r}.")
        parameters = [("service", realm["service"])] if "service" in realm else []
        parameters += [("scope", scope) for scope in sorted(scopes)]
        async with session.get(url, params=parameters, headers=self._password()) as answer:
            body = await answer.content.read(_MAX_TOKEN_BYTES)
        if answer.status in (401, 403):
            who = f"the login {self._access.username}" if self._access.username else "everybody"
            raise ImageDenied(f"The registry {self._access.host} gives {who} no access to {', '.join(sorted(scopes))}.")
        try:
            document = json.loads(body)
            token = str(document.get("token") or document["access_token"])
            lifetime = float(document.get("expires_in") or _DEFAULT_TOKEN_SECONDS)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise RegistryUnreachable(
                f"{url} gave no token for the registry {self._access.host} (status {answer.status})."
            ) from error
        now = time.monotonic()
        self._tokens = {known: held for known, held in self._tokens.items() if held[1] > now}
        self._tokens[scopes] = (token, now + max(lifetime - _EARLY_SECONDS, 1.0))
        return token
