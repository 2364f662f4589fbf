"""Events that a handler refused: tried again with growing pauses, parked after ten failures."""

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_schemas.events import EventEnvelope

MAX_TRIES = 10
_WAITING_KEYS = text("SELECT DISTINCT key FROM dead_letter WHERE consumer = :consumer AND parked_at IS NULL")
_RECENT = text(
    "SELECT count(*) FROM dead_letter WHERE consumer = :consumer"
    " AND (parked_at IS NULL OR parked_at > now() - interval '1 hour')"
)
_PUT = text(
    "INSERT INTO dead_letter (consumer, position, key, envelope, tries, error, next_try_at)"
    " VALUES (:consumer, :position, :key, CAST(:envelope AS jsonb), :tries, :error,"
    " now() + make_interval(secs => :pause))"
)
_NEXT = text(
    "SELECT envelope, tries FROM dead_letter AS d WHERE consumer = :consumer AND parked_at IS NULL"
    " AND next_try_at <= now() AND position > :after"
    " AND NOT EXISTS (SELECT FROM dead_letter AS e WHERE e.consumer = d.consumer AND e.key = d.key"
    " AND e.parked_at IS NULL AND e.position < d.position)"
    " ORDER BY position LIMIT 1"
)
_FAILED = text(
    "UPDATE dead_letter SET tries = tries + 1, error = :error, next_try_at = now() + make_interval(secs => :pause),"
    " parked_at = CASE WHEN tries + 1 >= :most THEN now() END"
    " WHERE consumer = :consumer AND position = :position RETURNING parked_at IS NOT NULL"
)
_GONE = text("DELETE FROM dead_letter WHERE consumer = :consumer AND position = :position")
_AGAIN = text(
    "UPDATE dead_letter SET tries = 0, parked_at = NULL, next_try_at = now()"
    " WHERE consumer = :consumer AND position = :position AND parked_at IS NOT NULL RETURNING 1"
)


class DeadLetters:
    """The dead letters of one consumer; every method works in the caller's transaction.

    While an event waits for its next try, later events of its key wait behind it, others go on. Once it is
    parked its key goes on as well.
    """

    def __init__(self, consumer: str, *, first_pause: float, longest_pause: float = 60.0) -> None:
        self._consumer = consumer
        self._first_pause = first_pause
        self._longest_pause = longest_pause

    async def waiting_keys(self, session: AsyncSession) -> set[str]:
        """Keys whose events must queue up behind an earlier one."""
        return set((await session.scalars(_WAITING_KEYS, {"consumer": self._consumer})).all())

    async def recent(self, session: AsyncSession) -> int:
        """How many wait, or were parked within the last hour."""
        return int(await session.scalar(_RECENT, {"consumer": self._consumer}) or 0)

    async def put(self, session: AsyncSession, envelope: EventEnvelope, error: str | None) -> None:
        """Store an event that failed once, or, without an error, one that waits behind another."""
        await session.execute(
            _PUT,
            {
                "consumer": self._consumer,
                "position": envelope.position,
                "key": envelope.key,
                "envelope": json.dumps(envelope.model_dump(mode="json")),
                "tries": 0 if error is None else 1,
                "error": error,
                "pause": 0.0 if error is None else self._first_pause,
            },
        )

    async def next_due(self, session: AsyncSession, after: int) -> tuple[EventEnvelope, int] | None:
        """The first event after position `after` that is due and the oldest of its key, with its tries so far."""
        row = (await session.execute(_NEXT, {"consumer": self._consumer, "after": after})).one_or_none()
        return None if row is None else (EventEnvelope.model_validate(row.envelope), row.tries)

    async def failed(self, session: AsyncSession, envelope: EventEnvelope, tries: int, error: str) -> bool:
        """Count a failure; tells whether the event is parked now."""
        pause = min(self._longest_pause, self._first_pause * 2.0**tries)
        values = {"error": error, "pause": pause, "most": MAX_TRIES}
        return bool(await session.scalar(_FAILED, {**values, **self._id(envelope)}))

    async def handled(self, session: AsyncSession, envelope: EventEnvelope) -> None:
        """Forget an event that went through."""
        await session.execute(_GONE, self._id(envelope))

    def _id(self, envelope: EventEnvelope) -> dict[str, object]:
        return {"consumer": self._consumer, "position": envelope.position}


async def try_parked_again(session: AsyncSession, consumer: str, position: int) -> bool:
    """Give a parked event ten new tries, for an operator who has mended the cause; False if it is not there."""
    return await session.scalar(_AGAIN, {"consumer": consumer, "position": position}) is not None
