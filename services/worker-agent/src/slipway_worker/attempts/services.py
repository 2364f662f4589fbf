"""What every attempt of a worker shares."""

from collections.abc import Callable
from dataclasses import dataclass

from slipway_kit.clock import Clock
from slipway_kit.transfer import ClientSession
from slipway_runtime.runtimes.protocol import ContainerRuntime
from slipway_worker.cache.input_cache import InputCache
from slipway_worker.machine.disk import Disk
from slipway_worker.settings import WorkerSettings
from slipway_worker.shim.client import ZygoteClient


@dataclass(frozen=True)
class AttemptServices:
    """The worker's parts that attempts use. `wake` makes the worker tell the scheduler what is new."""

    settings: WorkerSettings
    clock: Clock
    runtime: ContainerRuntime
    zygote: ZygoteClient
    cache: InputCache
    disk: Disk
    transfers: ClientSession
    hostname: str
    addresses: tuple[str, ...]
    wake: Callable[[], None]
