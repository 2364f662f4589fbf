"""Addresses of git remotes: which forms are taken, and how each is reached."""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from slipway_kit.errors import Invalid

DEFAULT_PORTS = {"http": 80, "https": 443, "ssh": 22}
MAX_URL_LENGTH = 2000

_SCP = re.compile(r"^(?P<user>[A-Za-z0-9._-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^:-][^:]*)$")
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$|^[0-9a-fA-F:.]+$")
_NUMBER = re.compile(r"^(0[xX][0-9a-fA-F]*|[0-9]+)$")


class Transport(StrEnum):
    """How a remote is reached."""

    HTTP = "http"
    SSH = "ssh"
    LOCAL = "local"


@dataclass(frozen=True)
class Remote:
    """A checked address. `host` and `port` are empty for a local path."""

    url: str
    transport: Transport
    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, which needs no name server."""
        return _is_address(self.host)


def parse_remote(url: str) -> Remote:
    """Check the form of an address; nothing is reached. Raises `Invalid` on field `url`.

    Taken are https and http URLs, ssh URLs, `user@host:path`, and absolute paths or file URLs. Names and passwords
    inside a URL are refused, because URLs are shown; helpers such as `ext::` are refused, because they run commands.
    """
    url = url.strip()
    if not url or len(url) > MAX_URL_LENGTH or any(ord(char) < 0x21 or ord(char) == 0x7F for char in url):
        raise _wrong("An address has no spaces and no control characters, and is not empty.")
    if url.startswith("-") or "::" in url.split("/")[0]:
        raise _wrong("This form of address is not taken. Use https://…, ssh://… or user@host:path.")
    if url.startswith("/"):
        return Remote(url, Transport.LOCAL, path=Path(url))
    if "://" not in url:
        match = _SCP.fullmatch(url)
        if match is None or match["user"].startswith("-"):
            raise _wrong("This is neither a URL nor user@host:path.")
        return Remote(url, Transport.SSH, _host(match["host"]), DEFAULT_PORTS["ssh"])
    return _parse_url(url)


def _parse_url(url: str) -> Remote:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong(f"The address cannot be read: {error}.") from error
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise _wrong("A file URL names an absolute path on the server: file:///srv/git/project.")
        return Remote(parts.path, Transport.LOCAL, path=Path(parts.path))
    if parts.scheme not in DEFAULT_PORTS:
        raise _wrong(f"Addresses with {parts.scheme}:// are not taken. Use https:// or ssh://.")
    host = _host(parts.hostname or "")
    if parts.query or parts.fragment:
        raise _wrong("The address of a repository has neither '?' nor '#'.")
    if parts.scheme == "ssh":
        if parts.password is not None or (parts.username or "").startswith("-"):
            raise _wrong("Leave the password out of the address: ssh uses the project's deploy key.")
        return Remote(url, Transport.SSH, host, port or DEFAULT_PORTS["ssh"])
    if parts.username is not None or parts.password is not None:
        raise _wrong("Leave name and password out of the address and give the token as `token`: addresses are shown.")
    return Remote(url, Transport.HTTP, host, port or DEFAULT_PORTS[parts.scheme])


def _host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise _wrong("The address has no usable host name.")
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and not _is_address(host):
        # 2130706433, 0x7f.1 and 0177.0.0.1 are read as addresses too, by each library in its own way.
        raise _wrong("Write an IP address as four decimal numbers, such as 203.0.113.7.")
    return host.lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _wrong(message: str) -> Invalid:
    return Invalid(message, field="url")
