"""The attempt directory: what lies where, and the files that agent and shim exchange through it.

Standard library only, and kept so: the shim reads this module, and its start must cost milliseconds.
"""

import contextlib
import errno
import json
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

STDOUT: Final = 1
STDERR: Final = 2

RECORD_HEADER: Final = struct.Struct("<BQI")
"""Header of a spool record: stream, unix time in µs, length of the bytes that follow.

A record of length 0 says that the stream was silent for a second in the middle of a line.
"""

ROLL_BYTES: Final = 64 * 1024 * 1024
"""A spool file is closed at this size and the next one begun."""

RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Both pipes and the exit record fit in."""

_JSON_RESERVE: Final = "reserve-state"
_JSON_RESERVE_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

ExitReason = Literal["time_limit", "no_output", "stopped", "killed", "start_failed", "disk_full"]


@dataclass(frozen=True)
class AttemptLayout:
    """Paths of one attempt's private directory (0700) and of its volatile directory, in memory.

    Inside, modes are open, because the user of a container is not the agent's: the private parent protects them.
    """

    root: Path
    volatile: Path

    @property
    def pipes(self) -> Path:
        """The FIFOs `stdout` and `stderr`."""
        return self.root / "pipes"

    @property
    def spool(self) -> Path:
        """Raw records of both streams in numbered files."""
        return self.root / "spool"

    @property
    def control(self) -> Path:
        """Entry script and command file, mounted read-only."""
        return self.root / "control"

    @property
    def state(self) -> Path:
        """Variables of the run until they are read, and the start mark. In memory where the machine can."""
        return self.volatile / "state"

    @property
    def scratch(self) -> Path:
        """Temporary and home directory of the process runtime."""
        return self.root / "scratch"

    @property
    def valohai(self) -> Path:
        """What the run sees as `/valohai`."""
        return self.root / "valohai"

    @property
    def spec_file(self) -> Path:
        """What the shim has to do (`ShimSpec`)."""
        return self.root / "shim-spec.json"

    @property
    def shim_file(self) -> Path:
        """Who the shim is (`ShimIdentity`)."""
        return self.root / "shim.json"

    @property
    def socket(self) -> Path:
        """The shim's control socket."""
        return self.root / "shim.sock"

    @property
    def exit_file(self) -> Path:
        """How the run ended (`ExitRecord`)."""
        return self.root / "exit.json"

    @property
    def reserve(self) -> Path:
        """Room for the end of the run on a disk that the run has filled; the shim gives it back then."""
        return self.root / "reserve"

    @property
    def started_mark(self) -> Path:
        """Written by the entry script just before the user's commands; its mtime is their start."""
        return self.state / "started"

    def create(self) -> None:
        """Make the directories and pipes. Doing it again changes nothing."""
        for private in (self.root, self.volatile):
            private.mkdir(parents=True, exist_ok=True)
            private.chmod(0o700)
        self.spool.mkdir(exist_ok=True, mode=0o700)
        scratch = (self.scratch / "tmp", self.scratch / "home")
        data = [self.valohai / name for name in ("repository", "inputs", "outputs", "config")]
        for shared in (self.pipes, self.control, self.state, self.scratch, *scratch, self.valohai, *data):
            shared.mkdir(exist_ok=True)
            shared.chmod(0o777)
        self.control.chmod(0o755)
        (self.valohai / "config").chmod(0o755)
        _allocate(self.reserve, RESERVE_BYTES)
        _allocate(self.root / _JSON_RESERVE, _JSON_RESERVE_BYTES)
        for name in ("stdout", "stderr"):
            pipe = self.pipes / name
            if not pipe.exists():
                os.mkfifo(pipe)
            pipe.chmod(0o666)

    def remove(self) -> None:
        """Delete both directories with all that is in them."""
        shutil.rmtree(self.volatile, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)


def volatile_root(home: Path) -> Path:
    """Where variables of runs may lie for a moment: memory where the machine has a tmpfs, else below `home`."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - only a private directory below it is used
    if shared_memory.is_dir() and os.access(shared_memory, os.W_OK):
        return shared_memory / f"slipway-{os.getuid()}"
    return home / "volatile"


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start. `cgroups` are directories that it joins before it begins."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    sandboxed: bool = False
    """True: argv is a sandbox that makes its own PID namespace; its own processes get no signals."""
    cgroups: list[str] = field(default_factory=list)
    rlimits: dict[str, int] = field(default_factory=dict)
    """Soft and hard limit by the name in `resource`, without `RLIMIT_`."""
    cpus: list[int] | None = None
    """Cores that the process may use."""


@dataclass(frozen=True)
class DockerSpec:
    """A created container to start, and the engine's socket."""

    socket: str
    container: str


@dataclass(frozen=True)
class RunLimits:
    """Timers that the shim keeps, in seconds. None = no limit."""

    time_limit: float | None = None
    no_output_timeout: float | None = None
    int_grace: float = 20.0
    term_grace: float = 10.0
    disk_patience: float = 600.0
    """How long the run's output may wait for room on the worker's disk before the run is ended."""


@dataclass(frozen=True)
class ShimSpec:
    """What one shim has to do: exactly one of `process` and `docker` is set."""

    attempt: str
    process: ProcessSpec | None = None
    docker: DockerSpec | None = None
    limits: RunLimits = RunLimits()
    roll_bytes: int = ROLL_BYTES

    def write(self, path: Path) -> None:
        """Write the spec, readable by this user only."""
        write_private_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "ShimSpec":
        """Read a spec; raises `ValueError`, `TypeError` or `KeyError` when it is not one."""
        raw = json.loads(path.read_bytes())
        return cls(
            attempt=raw["attempt"],
            process=ProcessSpec(**raw["process"]) if raw.get("process") else None,
            docker=DockerSpec(**raw["docker"]) if raw.get("docker") else None,
            limits=RunLimits(**raw.get("limits", {})),
            roll_bytes=raw.get("roll_bytes", ROLL_BYTES),
        )


@dataclass(frozen=True)
class ShimIdentity:
    """Which process a shim is. The start time tells it from a later process with the same number."""

    pid: int
    start_ticks: int
    started_at: str

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return process_start_ticks(self.pid) == self.start_ticks

    @classmethod
    def read(cls, path: Path) -> "ShimIdentity | None":
        """Read the identity; None where there is none."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class ExitRecord:
    """How a run ended."""

    code: int | None
    """Exit code; 128 + signal when a signal ended it; None when it never ran or nobody saw its end."""
    signal: int | None
    oom: bool
    reason: ExitReason | None
    """Why the shim ended the run; None when it ended by itself."""
    error: str | None
    started_at: str | None
    """ISO 8601, UTC."""
    finished_at: str
    bytes: dict[str, int]
    """Bytes written to `stdout` and `stderr`."""

    def write(self, path: Path) -> None:
        """Write the record in one step: it is there whole, or not at all."""
        write_private_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "ExitRecord | None":
        """Read the record; None while the run goes on."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None

    @property
    def finished(self) -> datetime:
        """When the run ended."""
        return datetime.fromisoformat(self.finished_at)


class SpoolRecord(NamedTuple):
    """Bytes of one stream as they were read from its pipe."""

    stream: int
    time_us: int
    data: bytes


def parse_records(buffer: bytes, position: int = 0) -> Iterator[tuple[SpoolRecord, int]]:
    """Whole records in `buffer` from `position` on, each with the position behind it; a torn tail is left."""
    size = len(buffer)
    while position + RECORD_HEADER.size <= size:
        stream, time_us, length = RECORD_HEADER.unpack_from(buffer, position)
        end = position + RECORD_HEADER.size + length
        if end > size:
            return
        yield SpoolRecord(stream, time_us, buffer[end - length : end]), end
        position = end


def spool_file_name(number: int) -> str:
    """Name of the spool's file `number`, counted from 1."""
    return f"{number:06d}.raw"


def process_start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it does not run (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def write_private_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with mode 0600, synced, under its name only when complete.

    On a full disk the reserve beside it is given up, once.
    """
    try:
        _write_json(path, content)
    except OSError as error:
        reserve = path.with_name(_JSON_RESERVE)
        if error.errno not in _FULL or not reserve.exists():
            raise
        reserve.unlink()
        _write_json(path, content)


def _allocate(path: Path, size: int) -> None:
    """Occupy room on the disk. Where there is none, or the file system cannot, there is no reserve."""
    if path.exists():
        return
    with contextlib.suppress(OSError), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.rename(path)
