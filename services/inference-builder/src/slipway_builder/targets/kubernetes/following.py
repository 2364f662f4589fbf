"""Follows what all replicas of an endpoint write."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from slipway_builder.targets.kubernetes.client import ClusterApi
from slipway_builder.targets.kubernetes.names import POD
from slipway_builder.targets.kubernetes.pods import CONTAINER
from slipway_builder.targets.protocol import ReplicaLine
from slipway_kit.errors import SlipwayError

LONGEST_LINE: Final = 64 * 1024
_QUEUED: Final = 1000
_LOOK_SECONDS: Final = 1.0

ListPods = Callable[[], Awaitable[list[Mapping[str, Any]]]]


@dataclass(slots=True)
class _Place:
    """How far a replica's log has been read: the time of the last line, to the nanosecond, as the cluster writes it."""

    after: str


class Follower:
    """One reader of an endpoint's lines; `lines` runs until its caller stops reading."""

    def __init__(
        self, api: ClusterApi, namespace: str, pods: ListPods, since: datetime, known: Mapping[str, datetime]
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._pods = pods
        self._since = since
        self._known = known
        self._queue: asyncio.Queue[ReplicaLine | SlipwayError] = asyncio.Queue(_QUEUED)
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._places: dict[str, _Place] = {}

    async def lines(self) -> AsyncGenerator[ReplicaLine, None]:
        """Yield lines, in order within a replica. Raises `Unavailable` when the cluster does not list the replicas."""
        looking = asyncio.create_task(self._look())
        try:
            while True:
                found = await self._queue.get()
                if isinstance(found, SlipwayError):
                    raise found
                yield found
        finally:
            tasks = [looking, *self._readers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Start a reader for each replica that has something to read and none yet."""
        while True:
            try:
                pods = await self._pods()
            except SlipwayError as error:
                await self._queue.put(error)
                return
            there = {str(pod["metadata"]["name"]) for pod in pods}
            for pod in pods:
                name = str(pod["metadata"]["name"])
                reader = self._readers.get(name)
                if _has_written(pod) and (reader is None or reader.done()):
                    self._readers[name] = asyncio.create_task(self._read(name))
            for name in [name for name, task in self._readers.items() if name not in there and task.done()]:
                del self._readers[name]
                self._places.pop(name, None)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, pod: str) -> None:
        """Read until the container ends; `_look` begins again where this stopped when another one was started."""
        place = self._places.setdefault(pod, _Place(_stamp(self._known.get(pod, self._since).astimezone(UTC))))
        query = {
            "container": CONTAINER,
            "follow": "true",
            "timestamps": "true",
            # The cluster counts whole seconds here; what was read before is skipped by its own time.
            "sinceTime": f"{place.after[:19]}Z",
        }
        path = f"{POD.path(self._namespace, pod)}/log"
        # A replica that is going away, or whose node does not answer: the next look decides.
        with suppress(SlipwayError):
            async with aclosing(self._api.stream(path, query)) as pieces, aclosing(split_lines(pieces)) as lines:
                async for line in lines:
                    await self._hand_on(pod, place, line)

    async def _hand_on(self, pod: str, place: _Place, line: bytes) -> None:
        stamp, _, text = line.partition(b" ")
        at = stamp.decode(errors="replace")
        when = _time(at)
        if when is None or _key(at) <= _key(place.after):
            return
        await self._queue.put(ReplicaLine(pod, when, "stdout", text))
        place.after = at


async def split_lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Cut into lines, without their ends; a line that is too long loses its rest."""
    kept = b""
    dropping = False
    async for piece in pieces:
        *whole, rest = (kept + piece).split(b"\n")
        for line in whole:
            if not dropping:
                yield line[:LONGEST_LINE]
            dropping = False
        kept = rest
        if len(kept) > LONGEST_LINE:
            if not dropping:
                yield kept[:LONGEST_LINE]
            dropping, kept = True, b""
    if kept and not dropping:
        yield kept


def _has_written(pod: Mapping[str, Any]) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return any({"running", "terminated"} & one.get("state", {}).keys() for one in statuses)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _key(stamp: str) -> str:
    """Times of different precision, made comparable."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def _time(stamp: str) -> datetime | None:
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    except ValueError:
        return None
