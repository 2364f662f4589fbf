"""The network of runs: a bridge of its own, on which containers reach the world, but neither each other nor the
cloud's metadata service, which gives out the machine's credentials."""

import asyncio
import shutil
from typing import Final

import aiodocker
from aiodocker.exceptions import DockerError

OWN_NETWORK: Final = "slipway"
_BRIDGE: Final = "slipway0"
_SECONDS: Final = 10.0
_CONFLICT: Final = 409

# Name servers may be at these addresses too, as on Google Cloud: port 53 stays open.
_METADATA: Final = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32")


async def ensure_own_network(docker: aiodocker.Docker) -> bool:
    """Make the network where it is missing; whether the metadata addresses are blocked on it.

    Raises `DockerError` when the engine refuses.
    """
    body = {
        "Name": OWN_NETWORK,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "Options": {
            "com.docker.network.bridge.name": _BRIDGE,
            "com.docker.network.bridge.enable_icc": "false",
        },
    }
    known = {network["Name"] for network in await docker.networks.list()}
    if OWN_NETWORK not in known:
        try:
            await docker.networks.create(body)
        except DockerError as error:
            if error.status != _CONFLICT:
                raise
    return all([await _block(network) for network in _METADATA])


async def _block(network: str) -> bool:
    """Drop what containers send there, before the machine's own rules see it. Needs root."""
    iptables = shutil.which("iptables")
    rule = ["PREROUTING", "-i", _BRIDGE, "-d", network, "-p", "tcp", "!", "--dport", "53", "-j", "DROP"]
    if iptables is None:
        return False
    return await _succeeds(iptables, "-C", *rule) or await _succeeds(iptables, "-I", *rule)


async def _succeeds(iptables: str, action: str, *rule: str) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            *(iptables, "-w", "5", "-t", "raw", action, *rule),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(_SECONDS):
            return await process.wait() == 0
    except (OSError, TimeoutError):
        return False
