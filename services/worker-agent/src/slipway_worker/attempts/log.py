"""An attempt's log on this machine: what the run prints and what the worker says, in one sequence."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from slipway_kit.clock import Clock
from slipway_kit.errors import Conflict
from slipway_kit.tasks import cancel_and_wait
from slipway_runtime.layout import AttemptLayout
from slipway_runtime.redaction import MASK, secret_patterns
from slipway_worker.attempts.platform import Superseded
from slipway_worker.spool.reading import NumberedRecord, SpoolReader
from slipway_worker.spool.sending import LogSender, Relay
from slipway_worker.spool.status import StatusJournal

OnRecords = Callable[[Sequence[NumberedRecord]], None]


_POLL_SECONDS = 0.005


class AttemptLog:
    """Opened once the secrets are known: before that, only status lines can be said."""

    def __init__(self, layout: AttemptLayout, relay: Relay, clock: Clock, on_trouble: Callable[[str], None]) -> None:
        self._layout = layout
        self._relay = relay
        self._clock = clock
        self._on_trouble = on_trouble
        self._patterns: tuple[bytes, ...] = ()
        self._journal = StatusJournal(layout.root / "status.jsonl", clock, self._redacted)
        self._reader: SpoolReader | None = None
        self._sender: LogSender | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was ever said."""
        return not self._journal.entries

    @property
    def is_open(self) -> bool:
        """Whether lines are being sent."""
        return self._sender is not None

    @property
    def lines(self) -> int:
        """Number of lines, complete after `close`."""
        return self._reader.lines if self._reader else 0

    @property
    def records(self) -> int:
        """Number of metadata records, complete after `close`."""
        return self._reader.records if self._reader else 0

    def last_lines(self) -> list[dict[str, str]]:
        """The last lines that the run printed, redacted, oldest first; complete after `close`."""
        return self._reader.last_lines() if self._reader else []

    def say(self, text: str) -> None:
        """Add a line to the `status` stream."""
        self._journal.say(text, self._reader.position if self._reader else 0)

    async def open(
        self, secrets: Iterable[str], raw_complete: Callable[[], bool], limit_bytes: int, on_records: OnRecords
    ) -> None:
        """Begin to send. Secrets never leave the machine; `raw_complete`: the run writes nothing any more."""
        values = sorted(secrets)
        self._patterns = secret_patterns(values)
        reader = SpoolReader(self._layout.spool, self._journal, values, raw_complete, limit_bytes)
        on_records(await reader.catch_up())
        self._reader = reader
        self._sender = LogSender(
            reader, self._relay, self._clock, on_records=on_records, on_trouble=self._on_trouble, seen=reader.records
        )
        self._task = asyncio.create_task(self._sender.run(), name="log-sender")

    async def output_read(self, patience: float) -> None:
        """After the run's end: wait, for that many seconds at most, until all that it printed has been read.

        What is said then stands behind the run's last line. The log service may be away: hence the limit.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._reader is not None and not self._reader.output_ended:  # noqa: ASYNC110 - rarely waits
                    await asyncio.sleep(_POLL_SECONDS)

    @property
    def sending(self) -> asyncio.Task[None]:
        """Ends when everything was taken after `close`; fails when the platform wants nothing of it any more."""
        if self._task is None:
            raise RuntimeError("open the log first")
        return self._task

    async def close(self) -> None:
        """Nothing more will be said: wait until the log service has everything. Raises `Superseded`."""
        if self._sender is None:
            raise RuntimeError("open the log first")
        self._sender.finish()
        try:
            await asyncio.shield(self.sending)
        except Conflict as error:
            raise Superseded(error.message) from error

    async def until_durable(self) -> None:
        """After `close`: wait until the log store has everything, so that the spool may go."""
        if self._sender is not None:
            await self._sender.until_durable()

    async def abandon(self) -> None:
        """Stop sending."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    def _redacted(self, text: str) -> str:
        data = text.encode(errors="replace")
        for pattern in sorted(self._patterns, key=len, reverse=True):
            data = data.replace(pattern, MASK)
        return data.decode(errors="replace")
