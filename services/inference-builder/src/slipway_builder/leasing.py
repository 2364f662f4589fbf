"""Works under a lease: renews it, and ends the work in time when it is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from slipway_kit.errors import Unavailable
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait

_log = get_logger()

_SURE = 0.9
"""The part of a lease for which its holder works without having renewed it."""
_RENEWALS = 4
"""Renewals in the time of one lease."""


class LeaseLost(Unavailable):
    """Another builder goes on with the work, or may do so at any moment."""

    code = "lease_lost"


@asynccontextmanager
async def held(renew: Callable[[], Awaitable[bool]], seconds: float, since: float) -> AsyncIterator[None]:
    """Keep a lease of `seconds` while the block runs; `since` is the loop's time before it was taken.

    The block is cancelled and `LeaseLost` raised as soon as `renew` says that the lease is not ours, or when it could
    not be renewed in time. The loop's clock goes on while a process is stopped: one that is continued after its lease
    has ended does nothing more under it.
    """
    try:
        async with asyncio.timeout_at(since + _SURE * seconds) as limit:
            keeper = asyncio.create_task(_keep(renew, seconds, limit))
            try:
                yield
            finally:
                await cancel_and_wait(keeper)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise LeaseLost("The lease has ended: another builder goes on with this.") from error


async def _keep(renew: Callable[[], Awaitable[bool]], seconds: float, limit: asyncio.Timeout) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(seconds / _RENEWALS)
        began = loop.time()
        try:
            ours = await renew()
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the limit ends the work if it stays so
            _log.warning("lease_not_renewed", error=str(error))
            continue
        if limit.expired():
            return
        limit.reschedule(began + _SURE * seconds if ours else began)
        if not ours:
            return
