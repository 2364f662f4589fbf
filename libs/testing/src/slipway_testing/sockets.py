"""Unit and property tests reach no network: a test that does belongs to another tier."""

import socket
from collections.abc import Callable

import pytest

QUIET_TIERS = (("tests", "unit"), ("tests", "property"))


class SocketBlockedError(RuntimeError):
    """A test of a quiet tier opened a network connection."""


@pytest.fixture(autouse=True)
def _sockets_off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse TCP and UDP connections in tests/unit and tests/property unless marked `sockets`."""
    try:
        tier = request.path.relative_to(request.config.rootpath).parts[:2]
    except ValueError:
        return
    if tier not in QUIET_TIERS or request.node.get_closest_marker("sockets") is not None:
        return
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _refusing(getattr(socket.socket, name)))


def _refusing(original: Callable[..., object]) -> Callable[..., object]:
    def connect(self: socket.socket, address: object) -> object:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise SocketBlockedError(
                f"a test in tests/unit or tests/property connects to {address}; "
                "move it to another tier, or mark it with @pytest.mark.sockets and say why"
            )
        return original(self, address)

    return connect
