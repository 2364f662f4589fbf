"""The state of an attempt on disk: what an agent that starts again needs to go on."""

from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from slipway_runtime.layout import AttemptLayout, write_private_json
from slipway_schemas.attempts import ResolvedInput
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.workers import Accepted, Assignment, Exited, Failed, UserCodeStarted

_RECORD_FILE = "attempt.json"

StoredFact = Annotated[Accepted | UserCodeStarted | Exited | Failed, Field(discriminator="kind")]
_FACTS: TypeAdapter[StoredFact] = TypeAdapter(StoredFact)


class StopLevel(IntEnum):
    """How firmly the attempt was asked to end."""

    NONE = 0
    GRACEFUL = 1
    KILL = 2
    GIVE_UP = 3
    """The outputs are not wanted any more, either."""


class Ending(BaseModel):
    """How the attempt ends, decided once; the totals are added when everything is safe."""

    model_config = ConfigDict(frozen=True)

    reason: EndReason
    code: int | None = None
    """Exit code of the run; None: the attempt failed without one."""
    message: str = ""
    retryable: bool = False
    evidence: dict[str, object] = {}
    at: datetime


class AttemptState(BaseModel):
    """What is written to `attempt.json`. Changed only through `AttemptRecord`."""

    assignment: Assignment
    phase: AttemptPhase = AttemptPhase.ASSIGNED
    phase_times: dict[AttemptPhase, datetime] = {}
    """When each phase began, by this machine's clock."""
    launched_us: int = 0
    """When the run was launched, by the clock of the kernel's log."""
    launched: bool = False
    """Set before the run is started: from then on it is never started again."""
    user_code_started: bool = False
    slot_free: bool = False
    gpus: tuple[int, ...] = ()
    stop_level: StopLevel = StopLevel.NONE
    stop_reason: EndReason = EndReason.USER
    inputs: tuple[ResolvedInput, ...] = ()
    """Inputs as fetched, for the configuration files."""
    ending: Ending | None = None
    superseded: bool = False
    last_seq: int = 0
    facts: tuple[StoredFact, ...] = ()
    """Facts that the scheduler has not answered yet."""


class AttemptRecord:
    """One attempt's directory and state. Every change is on disk before it counts."""

    def __init__(self, layout: AttemptLayout, state: AttemptState) -> None:
        self.layout = layout
        self._state = state

    @classmethod
    def create(cls, layout: AttemptLayout, assignment: Assignment, gpus: tuple[int, ...]) -> Self:
        """A new attempt; its directory is made."""
        layout.create()
        record = cls(layout, AttemptState(assignment=assignment, gpus=gpus))
        record.change()
        return record

    @classmethod
    def load(cls, layout: AttemptLayout) -> Self:
        """Read back; raises `FileNotFoundError` for a directory without a record, `ValueError` for a broken one."""
        return cls(layout, AttemptState.model_validate_json((layout.root / _RECORD_FILE).read_bytes()))

    @property
    def state(self) -> AttemptState:
        """The state as it is on disk."""
        return self._state

    @property
    def attempt_id(self) -> UUID:
        """The attempt."""
        return self._state.assignment.attempt_id

    def change(self, **changes: object) -> None:
        """Set fields and write the record, whole or not at all."""
        state = self._state.model_copy(update=changes)
        write_private_json(self.layout.root / _RECORD_FILE, state.model_dump(mode="json"))
        self._state = state

    def remove(self) -> None:
        """Delete the attempt's directory. The record goes first: a directory without one holds nothing wanted."""
        (self.layout.root / _RECORD_FILE).unlink(missing_ok=True)
        self.layout.remove()

    def enter(self, phase: AttemptPhase, at: datetime, **changes: object) -> None:
        """Begin a phase. One that is entered again keeps the time of its first beginning."""
        times = {**self._state.phase_times, phase: self._state.phase_times.get(phase, at)}
        self.change(phase=phase, phase_times=times, **changes)

    def add_fact(self, kind: str, at: datetime, **fields: object) -> None:
        """Remember a fact until it is answered. A kind is told once."""
        if any(fact.kind == kind for fact in self._state.facts):
            return
        seq = self._state.last_seq + 1
        fact = _FACTS.validate_python({"kind": kind, "attempt_id": self.attempt_id, "seq": seq, "at": at, **fields})
        self.change(facts=(*self._state.facts, fact), last_seq=seq)

    def facts_done(self, seqs: set[int]) -> None:
        """Forget answered facts."""
        left = tuple(fact for fact in self._state.facts if fact.seq not in seqs)
        if len(left) != len(self._state.facts):
            self.change(facts=left)


def attempt_directories(home: Path) -> list[Path]:
    """Directories of all attempts that this home has."""
    root = home / "attempts"
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
