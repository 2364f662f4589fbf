"""Who this machine is: an id kept in the worker's home, its addresses."""

import os
import socket
from pathlib import Path

import psutil

from slipway_kit.ids import new_id


def machine_id(home: Path) -> str:
    """The id under which this home registers; made at first use. A home that is kept stays the same worker."""
    path = home / "machine-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(f"{new_id()}\n")
        temporary.rename(path)
        return path.read_text().strip()


def addresses() -> tuple[str, ...]:
    """IPv4 addresses of this machine's interfaces, without loopback."""
    found = (
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    )
    return tuple(dict.fromkeys(found))
