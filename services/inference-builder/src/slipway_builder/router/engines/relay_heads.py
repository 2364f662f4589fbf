"""Heads of requests and answers as the relay passes them on."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from slipway_builder.router.answers import PROBLEM_TYPE, Answer
from slipway_builder.router.deciding import Forward
from slipway_schemas.inference.routing import PREFIX_HEADER, VERSION_HEADER

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"trailer"}
)
_OWN_PREFIXES = (b"x-vh", b"x_vh", b"x_forwarded")
"""WSGI servers take an underscore for a hyphen."""
_VERSION_NAME = VERSION_HEADER.lower().encode()
_WEBSOCKET = b"websocket"
_NEVER_DROPPED = frozenset({b"", b"content-length", b"host"})
"""A client that names these in Connection must not change where a message ends or whom it is for."""

HeaderList = list[tuple[bytes, bytes, bytes]]
"""Name in lower case, name as it was sent, value."""


class InvalidRequest(Exception):
    """The head is not one that can be passed on."""


@dataclass(slots=True)
class Head:
    """A request's or an answer's head as it was read."""

    method: bytes = b""
    target: bytes = b""
    headers: HeaderList = field(default_factory=list)
    old: bool = False
    """HTTP/1.0."""
    upgrade: bool = False
    """Another protocol follows, if the server agrees."""

    def value(self, name: bytes) -> bytes | None:
        """The first header of that name (lower case)."""
        return next((value for lower, _, value in self.headers if lower == name), None)

    def count(self, name: bytes) -> int:
        """How many headers have that name (lower case)."""
        return sum(lower == name for lower, _, _ in self.headers)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.value(b"transfer-encoding") is not None

    @property
    def websocket(self) -> bool:
        """Whether that protocol is the websocket protocol; no other is passed on."""
        return self.upgrade and (self.value(b"upgrade") or b"").lower() == _WEBSOCKET

    @property
    def named_by_connection(self) -> frozenset[bytes]:
        """Headers that are for the next hop alone."""
        named = b",".join(value for lower, _, value in self.headers if lower == b"connection")
        return frozenset(one.strip().lower() for one in named.split(b",")) - _NEVER_DROPPED


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request and how."""

    address: str
    secure: bool
    trusted: bool
    """A proxy of ours, whose X-Forwarded-* headers are believed."""


def origin_form(head: Head) -> tuple[str, bytes]:
    """Path that decides, and target that the pod gets. Raises `InvalidRequest` when the target has no path."""
    target = head.target
    if not target.startswith(b"/"):
        parts = urlsplit(target)
        if parts.scheme not in (b"http", b"https") or not parts.netloc:
            raise InvalidRequest
        target = target[len(parts.scheme) + 3 + len(parts.netloc) :]
        if not target.startswith(b"/"):
            target = b"/" + target
    if b"#" in target:
        raise InvalidRequest
    return target.partition(b"?")[0].decode("latin-1"), target


def check(head: Head) -> None:
    """Refuse what two servers may understand in two ways. Raises `InvalidRequest`."""
    if head.method == b"CONNECT":
        raise InvalidRequest
    encodings = [value.strip().lower() for lower, _, value in head.headers if lower == b"transfer-encoding"]
    if (encodings and encodings != [b"chunked"]) or (encodings and (head.old or head.count(b"content-length"))):
        raise InvalidRequest
    if head.upgrade and (encodings or head.value(b"content-length") not in (None, b"0")):
        raise InvalidRequest
    hosts = head.count(b"host")
    if head.count(b"content-length") > 1 or hosts > 1 or (hosts == 0 and not head.old):
        raise InvalidRequest


def request_head(head: Head, target: bytes, decision: Forward, client: Client) -> bytes:
    """The head that the pod gets."""
    dropped = head.named_by_connection | _HOP_BY_HOP | decision.secret_headers
    lines = [b"%b %b HTTP/1.1" % (head.method, target)]
    lines += _kept(head.headers, dropped, _OWN_PREFIXES if client.trusted else (*_OWN_PREFIXES, b"x-forwarded"))
    if head.value(b"host") is None:
        lines.append(f"Host: {decision.backend.host}:{decision.backend.port}".encode())
    lines.append(f"{PREFIX_HEADER}: {decision.route.prefix}/".encode())
    lines.append(b"X-Forwarded-For: " + client.address.encode())
    if not client.trusted or head.value(b"x-forwarded-proto") is None:
        lines.append(b"X-Forwarded-Proto: " + (b"https" if client.secure else b"http"))
    if head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if head.websocket:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def answer_head(status: int, reason: bytes, head: Head, version: str, *, close: bool, chunked: bool) -> bytes:
    """The head that the client gets."""
    dropped = head.named_by_connection | _HOP_BY_HOP | {_VERSION_NAME}
    lines = [b"HTTP/1.1 %d %b" % (status, reason), *_kept(head.headers, dropped, ())]
    lines.append(f"{VERSION_HEADER}: {version}".encode())
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if status == 101:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    elif close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def own_answer(
    answer: Answer, *, headers: Iterable[tuple[str, str]] = (), version: str | None, close: bool, bodiless: bool
) -> bytes:
    """A whole answer of the router itself."""
    body = answer.body.encode()
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Error')}",
        f"Content-Length: {len(body)}",
        f"Content-Type: {PROBLEM_TYPE}",
        *(f"{name}: {value}" for name, value in headers),
        *([f"{VERSION_HEADER}: {version}"] if version is not None else []),
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if bodiless else body)


def _kept(headers: HeaderList, dropped: Collection[bytes], prefixes: tuple[bytes, ...]) -> Iterator[bytes]:
    forwarded = b"x-forwarded" in prefixes
    for lower, name, value in headers:
        if lower in dropped or (prefixes and lower.startswith(prefixes)) or (forwarded and lower == b"forwarded"):
            continue
        yield b"%b: %b" % (name, value)


_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
