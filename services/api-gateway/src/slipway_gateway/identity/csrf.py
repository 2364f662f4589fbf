"""Guards against requests that other sites make a browser send."""

import hmac
from hashlib import sha256

HEADER = "X-CSRF-Token"
FIELD = "csrf_token"
LOGIN_COOKIE = "slipway_login"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def csrf_token(secret: str, pepper: str) -> str:
    """What a form must send back: derived from the visitor's cookie, so nothing is stored."""
    return hmac.new(pepper.encode(), f"csrf:{secret}".encode(), sha256).hexdigest()


def csrf_matches(sent: str | None, secret: str, pepper: str) -> bool:
    """Whether `sent` is the token of this cookie value."""
    return hmac.compare_digest((sent or "").encode(), csrf_token(secret, pepper).encode())
