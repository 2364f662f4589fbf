"""Who calls: signed tokens between services and for attempts, opaque tokens for workers and groups."""

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Final, Generic, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import BaseModel, ConfigDict, ValidationError

from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import Forbidden, Unauthorized
from slipway_schemas.tokens import AttemptClaims

ACTOR_HEADER = "X-Slipway-Actor"
BEARER: Final = HTTPBearer(
    scheme_name="bearer", description="A token of a service, a worker, a group or an attempt.", auto_error=False
)
"""Says in OpenAPI that a route wants a bearer token; who reads the token checks it."""
_ALGORITHM = "Ed25519"
_SERVICE_TYPE = "slipway-service+jwt"
_ATTEMPT_TYPE = "slipway-attempt+jwt"
_LIFETIME = timedelta(minutes=5)
_RENEW_BEFORE = timedelta(minutes=1)
_LEEWAY = timedelta(seconds=10)
_CACHE_SIZE = 4096

T = TypeVar("T")


class ServiceIdentity(BaseModel):
    """A proven caller: which service, for what; `actor` is the acting user, for the audit only."""

    model_config = ConfigDict(frozen=True)

    service: str
    audience: str
    scope: str
    expires_at: datetime
    actor: int | None = None


class ServiceSigner:
    """Makes the tokens with which the service `name` calls others; each is used again until it is old."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey, clock: Clock | None = None) -> None:
        self._name = name
        self._key = _private_jwk(private_key)
        self._clock = clock or SystemClock()
        self._made: dict[tuple[str, str], tuple[str, datetime]] = {}

    def token(self, audience: str, scope: str = "internal") -> str:
        """Return a token for `audience` that is good for at least a minute and at most five."""
        now = self._clock.now()
        made = self._made.get((audience, scope))
        if made is not None and made[1] - now > _RENEW_BEFORE:
            return made[0]
        expires_at = now + _LIFETIME
        claims = {
            "iss": self._name,
            "aud": audience,
            "scope": scope,
            "iat": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        header = {"alg": _ALGORITHM, "typ": _SERVICE_TYPE}
        token = jwt.encode(header, claims, self._key, algorithms=[_ALGORITHM])
        self._made[audience, scope] = (token, expires_at)
        return token


class ServiceVerifier:
    """Checks tokens of the services whose keys are trusted; remembers checked tokens by their hash."""

    def __init__(self, audience: str, trusted: Mapping[str, Ed25519PublicKey], clock: Clock | None = None) -> None:
        self._audience = audience
        self._trusted = {name: _public_jwk(key) for name, key in trusted.items()}
        self._clock = clock or SystemClock()
        self._checked: _BoundedCache[ServiceIdentity] = _BoundedCache()

    def verify(self, token: str) -> ServiceIdentity:
        """Return who signed the token. Raises `Unauthorized` when it is forged, expired or for another."""
        digest = sha256(token.encode()).digest()
        identity = self._checked.get(digest) or self._check(token)
        if identity.expires_at + _LEEWAY < self._clock.now():
            raise Unauthorized("The service token has expired; check the clocks of both machines.")
        self._checked.put(digest, identity)
        return identity

    def _check(self, token: str) -> ServiceIdentity:
        for service, key in self._trusted.items():
            try:
                decoded = jwt.decode(token, key, algorithms=[_ALGORITHM])
                claims = decoded.claims
                if decoded.header.get("typ") != _SERVICE_TYPE or claims.get("iss") != service:
                    continue
                if claims.get("aud") != self._audience:
                    raise Unauthorized(f"The service token of {service} is not for {self._audience}.")
                return ServiceIdentity(
                    service=service,
                    audience=self._audience,
                    scope=str(claims.get("scope", "")),
                    expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
                )
            except (JoseError, ValueError, KeyError, TypeError):
                continue
        raise Unauthorized("The service token is not signed by a trusted service.")


def require_service(verifier: ServiceVerifier, *allowed: str) -> Callable[..., Awaitable[ServiceIdentity]]:
    """Make a FastAPI dependency that lets in the services named in `allowed` (none named: every trusted)."""

    async def identify(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
    ) -> ServiceIdentity:
        identity = verifier.verify(bearer_token(request))
        if allowed and identity.service not in allowed:
            raise Forbidden(f"The service {identity.service} may not call this.")
        actor = acting_user(request)
        return identity if actor is None else identity.model_copy(update={"actor": actor})

    return identify


def acting_user(request: Request) -> int | None:
    """The user on whose behalf a service calls, for the record only: the caller has proven that it is a service."""
    value = request.headers.get(ACTOR_HEADER, "")
    return int(value) if value.isascii() and value.isdigit() else None


def bearer_token(request: Request) -> str:
    """Return the token of `Authorization: Bearer <token>`. Raises `Unauthorized` when there is none."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthorized("Send a token in the header `Authorization: Bearer <token>`.")
    return token.strip()


class AttemptSigner:
    """The scheduler's: signs the token of an attempt. It does not expire; fencing ends it."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._key = _private_jwk(private_key)

    def sign(self, claims: AttemptClaims) -> str:
        """Return the token that proves these claims."""
        header = {"alg": _ALGORITHM, "typ": _ATTEMPT_TYPE}
        return jwt.encode(header, claims.model_dump(mode="json"), self._key, algorithms=[_ALGORITHM])


class AttemptVerifier:
    """Checks attempt tokens anywhere, with the scheduler's public key."""

    def __init__(self, public_key: Ed25519PublicKey) -> None:
        self._key = _public_jwk(public_key)
        self._checked: _BoundedCache[AttemptClaims] = _BoundedCache()

    def verify(self, token: str) -> AttemptClaims:
        """Return what the token proves. Raises `Unauthorized`. A superseded attempt is the caller's check."""
        digest = sha256(token.encode()).digest()
        claims = self._checked.get(digest)
        if claims is None:
            try:
                decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
                if decoded.header.get("typ") != _ATTEMPT_TYPE:
                    raise Unauthorized("This token is not an attempt token.")
                claims = AttemptClaims.model_validate(decoded.claims)
            except (JoseError, ValidationError, ValueError) as error:
                raise Unauthorized("The attempt token is not one that the scheduler signed.") from error
            self._checked.put(digest, claims)
        return claims


def new_secret_token() -> str:
    """Return a new random token of 256 bits, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


def token_hash(token: str, pepper: str) -> str:
    """Return the HMAC-SHA256 of a token in hex: what is stored and looked up, never the token itself."""
    return hmac.new(pepper.encode(), token.encode(), sha256).hexdigest()


class _BoundedCache(Generic[T]):
    """Remembers the newest results; the oldest go first."""

    def __init__(self, size: int = _CACHE_SIZE) -> None:
        self._size = size
        self._values: dict[bytes, T] = {}

    def get(self, key: bytes) -> T | None:
        return self._values.get(key)

    def put(self, key: bytes, value: T) -> None:
        if key not in self._values and len(self._values) >= self._size:
            del self._values[next(iter(self._values))]
        self._values[key] = value


def _private_jwk(key: Ed25519PrivateKey) -> OKPKey:
    return OKPKey.import_key(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _public_jwk(key: Ed25519PublicKey) -> OKPKey:
    return OKPKey.import_key(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
