"""Serves endpoints as processes of this machine.

Each replica gets a port of its own: the port number in its command is replaced, and `VALOHAI_PORT` names it. Servers
run in a bubblewrap sandbox where that works, else as plain processes. They outlive the builder, which finds them again
by what it keeps in its folder. Secrets are never written there, so after a restart of the builder a replica that ends
is started anew only when its revision has been applied again.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID, uuid4

import psutil

from slipway_builder.images.protocol import HOME_DIRECTORY, WORK_DIRECTORY
from slipway_builder.images.wsgi import WSGI_DIRECTORY
from slipway_builder.targets.process import replicas
from slipway_builder.targets.process.bundles import Bundles
from slipway_builder.targets.process.following import Follower
from slipway_builder.targets.process.replicas import ReplicaState
from slipway_builder.targets.protocol import Address, EndpointRevision, Observation, ReplicaLine, TargetCheck
from slipway_kit.errors import Invalid
from slipway_kit.logging import get_logger
from slipway_runtime.runtimes.sandbox import (
    base_environment,
    filtered,
    hiding_arguments,
    proc_arguments,
    sandbox_works,
    system_arguments,
)
from slipway_schemas.inference.statuses import Problem, TargetKind

_log = get_logger()

_LONGEST_PAUSE_SECONDS = 30.0
_CALM_SECONDS = 60.0
_SLOW_START_SECONDS = 10.0
"""A server that does not answer for so long is said to be failing its probe."""
_GENERATION_FILE = "generation"


@dataclass
class _Endpoint:
    """What this process knows of an endpoint beside what lies in its folder."""

    revision: EndpointRevision
    exits: int = 0
    last_exit: str = ""
    start_after: float = 0.0
    started_at: dict[int, float] = field(default_factory=dict)


class ProcessTarget:
    """One host without an engine: this one."""

    kind = TargetKind.PROCESS

    def __init__(self, home: Path, *, hidden: Sequence[Path] = ()) -> None:
        """`hidden` are folders of the platform that no server may see."""
        self.bundles = Bundles(home)
        self._replicas = home / "replicas"
        self._hidden = tuple(hidden)
        self._endpoints: dict[UUID, _Endpoint] = {}
        self._children: dict[int, Any] = {}
        self._bwrap: str | None = shutil.which("bwrap")
        self._checked = False

    async def check(self) -> tuple[TargetCheck, ...]:
        """The sandbox, and a place to write."""
        await self._check_sandbox()
        self._replicas.mkdir(parents=True, exist_ok=True)
        plain = "bubblewrap (bwrap) is not installed or may not be used here: endpoints are not isolated"
        return (
            TargetCheck("folder", os.access(self._replicas, os.W_OK), f"{self._replicas} must be writable"),
            TargetCheck("sandbox", self._bwrap is not None, "" if self._bwrap else plain),
        )

    async def apply(self, revision: EndpointRevision) -> None:
        """Start what is missing, end what is too many or of an older revision."""
        if not revision.image.startswith("bundle:") or not self.bundles.code(revision.image).is_dir():
            raise Invalid(f"The files of this version are not on this machine ({revision.image}): build it again.")
        known = self._endpoints.get(revision.endpoint_id)
        if known is None or _fingerprint(known.revision) != _fingerprint(revision):
            self._endpoints[revision.endpoint_id] = _Endpoint(revision)
        else:
            known.revision = revision
        self._note_generation(revision)
        await self._keep(revision.endpoint_id)

    async def remove(self, endpoint_id: UUID) -> None:
        """End all replicas and delete their folders."""
        self._endpoints.pop(endpoint_id, None)
        folder = self._replicas / str(endpoint_id)
        await asyncio.gather(*(self._end(one) for one in self._folders(endpoint_id)))
        await self._end_strays(folder)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def observe(self) -> Mapping[UUID, Observation]:
        """Look at every replica, start those again that have ended, and say how things are."""
        self._reap()
        found: dict[UUID, Observation] = {}
        await self._end_strays(self._replicas)
        names = sorted(os.listdir(self._replicas)) if self._replicas.is_dir() else []
        for endpoint_id in [UUID(name) for name in names if _is_uuid(name)]:
            known = self._endpoints.get(endpoint_id)
            if known is not None and known.revision.generation == self._generation(endpoint_id):
                await self._keep(endpoint_id)
            else:  # another builder has applied another one since
                self._endpoints.pop(endpoint_id, None)
            found[endpoint_id] = await self._observation(endpoint_id)
        return found

    async def logs(
        self, endpoint_id: UUID, *, since: datetime, known: Mapping[str, datetime] | None = None
    ) -> AsyncGenerator[ReplicaLine, None]:
        """Lines as they are written, with the time at which they were read first."""
        follower = Follower(self._replicas / str(endpoint_id), since, known or {})
        async with aclosing(follower.lines()) as lines:
            async for line in lines:
                yield line

    async def aclose(self) -> None:
        """Let go of what is half done; the servers go on."""
        await asyncio.to_thread(self.bundles.close)
        for child in self._children.values():
            if child.poll() is None:
                child.returncode = 0  # it is not ours to wait for any more, and Popen would complain

    async def end_all(self) -> None:
        """End every server of this home, as when the machine is switched off."""
        if self._replicas.is_dir():
            folders = [folder for one in self._replicas.iterdir() for folder in one.iterdir()]
            await asyncio.gather(*(self._end(folder) for folder in folders))
            await self._end_strays(self._replicas)

    def _folders(self, endpoint_id: UUID) -> list[Path]:
        root = self._replicas / str(endpoint_id)
        found = (one for one in root.iterdir() if one.name.isdecimal()) if root.is_dir() else ()
        return sorted(found, key=lambda one: one.name)

    def _generation(self, endpoint_id: UUID) -> int:
        """The generation that was applied last, by whichever builder."""
        try:
            return int((self._replicas / str(endpoint_id) / _GENERATION_FILE).read_text())
        except (OSError, ValueError):
            return 0

    def _note_generation(self, revision: EndpointRevision) -> None:
        folder = self._replicas / str(revision.endpoint_id)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{_GENERATION_FILE}.{uuid4().hex}"
        temporary.write_text(str(revision.generation))
        temporary.replace(folder / _GENERATION_FILE)

    async def _end_strays(self, root: Path) -> None:
        for folder, groups in (await asyncio.to_thread(replicas.strays, root)).items():
            for group in groups:
                _log.warning("stray_replica_ended", folder=str(folder), pid=group)
                await replicas.end_group(group)

    async def _keep(self, endpoint_id: UUID) -> None:
        """Bring the replicas of an endpoint in line with its revision."""
        endpoint = self._endpoints[endpoint_id]
        revision, wanted = endpoint.revision, _wanted(endpoint.revision)
        fingerprint = _fingerprint(revision)
        loop = asyncio.get_running_loop()
        for folder in self._folders(endpoint_id):
            state = ReplicaState.read(folder)
            if int(folder.name) >= wanted or (state is not None and state.fingerprint != fingerprint):
                await self._end(folder)
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        for number in range(wanted):
            folder = self._replicas / str(endpoint_id) / str(number)
            state = ReplicaState.read(folder)
            if state is not None and state.process() is not None:
                if state.generation != revision.generation:
                    replace(state, generation=revision.generation).write(folder)
                replicas.keep_log_small(folder)
                continue
            if state is not None:
                self._note_exit(endpoint, state, number)
            if loop.time() >= endpoint.start_after:
                await self._start(endpoint, folder, number)

    def _note_exit(self, endpoint: _Endpoint, state: ReplicaState, number: int) -> None:
        loop = asyncio.get_running_loop()
        began = endpoint.started_at.pop(number, None)
        if began is None and endpoint.start_after > loop.time():
            return
        child = self._children.pop(state.pid, None)
        code = child.poll() if child is not None else None
        endpoint.exits = 1 if began is not None and loop.time() - began > _CALM_SECONDS else endpoint.exits + 1
        endpoint.last_exit = _exit_words(code)
        pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2 ** (endpoint.exits - 1))
        endpoint.start_after = loop.time() + (pause if endpoint.exits > 1 else 0)

    async def _start(self, endpoint: _Endpoint, folder: Path, number: int) -> None:
        revision = endpoint.revision
        await self._check_sandbox()
        port = replicas.free_port()
        folder.mkdir(parents=True, exist_ok=True)
        server = await self.bundles.wsgi_server() if revision.spec.wsgi is not None else None
        (folder / replicas.STATE_FILE).unlink(missing_ok=True)  # of a process that has ended
        argv, environment = self._command(revision, folder, port, server)
        child = replicas.spawn(argv, environment, folder, self.bundles.code(revision.image))
        state = ReplicaState(
            pid=child.pid,
            started=_start_time(child.pid),
            port=port,
            fingerprint=_fingerprint(revision),
            generation=revision.generation,
        )
        self._children[child.pid] = child
        if not state.claim(folder):
            await replicas.end_group(child.pid)
            return
        endpoint.started_at[number] = asyncio.get_running_loop().time()
        _log.info("replica_started", endpoint_id=str(revision.endpoint_id), replica=number, pid=child.pid, port=port)

    def _command(
        self, revision: EndpointRevision, folder: Path, port: int, server: Path | None
    ) -> tuple[list[str], dict[str, str]]:
        code, venv = self.bundles.code(revision.image), self.bundles.venv(revision.image)
        sandboxed = self._bwrap is not None
        python = venv or Path(sys.prefix)
        home = PurePosixPath(HOME_DIRECTORY) if sandboxed else PurePosixPath(folder / "home")
        temporary = PurePosixPath("/tmp") if sandboxed else PurePosixPath(folder / "tmp")  # noqa: S108 - the sandbox's
        environment = base_environment(python, home, temporary)
        # Last: a `python3` under this path would not find the packages beside it.
        environment["PATH"] = f"{environment['PATH']}:{home}/.local/bin"
        wanted = {"PYTHONUNBUFFERED": "1", **revision.environment, **revision.secret_environment}
        environment |= {name: value for name, value in wanted.items() if name != "VH_JOB_ID"}
        environment |= {"VALOHAI_PORT": str(port), "PORT": str(port), "VH_DEFAULT_PREFIX": revision.prefix}
        if server is not None:
            beside = WSGI_DIRECTORY if sandboxed else str(server)
            environment["PYTHONPATH"] = ":".join(filter(None, (environment.get("PYTHONPATH"), beside)))
        argv = list(_command_on(revision, port))
        for name in ("home/.local", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        programs = folder / "home" / ".local" / "bin"
        if not sandboxed:
            if not programs.exists():
                programs.symlink_to(python / "bin")
            return argv, environment
        assert self._bwrap is not None  # noqa: S101 - `sandboxed` says so
        arguments = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
        arguments += [*system_arguments(), *hiding_arguments(self._hidden), *proc_arguments()]
        arguments += ["--dev", "/dev", "--tmpfs", "/run", "--bind", str(folder / "tmp"), "/tmp"]  # noqa: S108
        arguments += ["--ro-bind", str(code), WORK_DIRECTORY, "--bind", str(folder / "home"), HOME_DIRECTORY]
        if venv is not None:
            arguments += ["--ro-bind", str(venv / "bin"), f"{HOME_DIRECTORY}/.local/bin"]
        if server is not None:
            (folder / "home" / PurePosixPath(WSGI_DIRECTORY).name).mkdir(exist_ok=True)
            arguments += ["--ro-bind", str(server), WSGI_DIRECTORY]
        for place in {venv, Path(sys.prefix), Path(sys.base_prefix).resolve()} - {None}:
            if place is not None and not place.is_relative_to("/usr"):
                arguments += ["--ro-bind", str(place), str(place)]
        resolver = Path("/etc/resolv.conf").resolve()
        if resolver.is_relative_to("/run") and resolver.exists():
            arguments += ["--ro-bind", str(resolver), str(resolver)]
        arguments += ["--chdir", WORK_DIRECTORY]
        return [*filtered(self._bwrap, folder), *arguments, "--", *argv], environment

    async def _check_sandbox(self) -> None:
        if not self._checked:
            self._checked = True
            if self._bwrap is not None and not await sandbox_works(self._bwrap):
                self._bwrap = None
            if self._bwrap is None:
                _log.warning("endpoints_not_isolated", reason="bubblewrap is not installed or may not be used here")

    async def _end(self, folder: Path) -> None:
        state = ReplicaState.read(folder)
        if state is not None:
            await replicas.end(state)
            self._reap()

    def _reap(self) -> None:
        for child in self._children.values():
            child.poll()

    async def _observation(self, endpoint_id: UUID) -> Observation:
        endpoint = self._endpoints.get(endpoint_id)
        loop = asyncio.get_running_loop()
        addresses: list[Address] = []
        slow, generation = False, 0  # 0 = nothing runs: the builder says again what is wanted, with its secrets
        for folder in self._folders(endpoint_id):
            state = ReplicaState.read(folder)
            if state is None or state.process() is None:
                continue
            generation = state.generation
            if await replicas.answers(state.port):
                addresses.append(Address("127.0.0.1", state.port))
            elif endpoint is not None:
                began = endpoint.started_at.get(int(folder.name), loop.time())
                slow = slow or loop.time() - began > _SLOW_START_SECONDS
        problem, detail = None, ""
        lines: tuple[str, ...] = ()
        wanted = _wanted(endpoint.revision) if endpoint else len(self._folders(endpoint_id))
        if endpoint is not None and len(addresses) < wanted:
            lines = next((replicas.last_lines(folder) for folder in self._folders(endpoint_id)), ())
            if endpoint.exits > 1:
                problem, detail = Problem.CRASH_LOOP, f"The server ends again and again: {endpoint.last_exit}."
            elif slow:
                port = endpoint.revision.spec.port
                problem = Problem.PROBE_FAILING
                detail = (
                    f"The server runs, but takes no connections yet. On this target it must listen on the port that "
                    f"VALOHAI_PORT names; a {port} in its command is replaced."
                )
            if problem is not None and lines:
                detail = f"{detail} Its last line: {lines[-1]}"
        return Observation(
            endpoint_id=endpoint_id,
            generation=endpoint.revision.generation if endpoint else generation,
            wanted=wanted,
            ready=len(addresses),
            address=addresses[0] if addresses else None,
            problem=problem,
            detail=detail,
            last_lines=lines if problem is not None else (),
            restarts=max(0, endpoint.exits) if endpoint else 0,
        )


def open_target(_id: UUID, settings: Mapping[str, Any], local: Mapping[str, Any]) -> ProcessTarget:
    """The factory of the kind; all settings belong to the installation."""
    return ProcessTarget(Path(local["home"]), hidden=[Path(one) for one in local.get("hidden", ())])


def _wanted(revision: EndpointRevision) -> int:
    """One replica at most: requests of an endpoint go to one address, and nothing on one host spreads them."""
    return min(revision.scale.replicas, 1)


def _command_on(revision: EndpointRevision, port: int) -> tuple[str, ...]:
    """The server's command with its port in the place of the declared one."""
    number = re.compile(rf"(?<![\w.]){revision.spec.port}(?![\w.])")
    return tuple(number.sub(str(port), part) for part in revision.command)


def _fingerprint(revision: EndpointRevision) -> str:
    parts = [
        revision.image,
        list(revision.command),
        revision.prefix,
        sorted(revision.environment.items()),
        sorted(revision.secret_environment.items()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _start_time(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def _exit_words(code: int | None) -> str:
    if code is None:
        return "its exit code is not known"
    return f"exit code {code}" if code >= 0 else f"ended by signal {-code}"


def _is_uuid(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True
