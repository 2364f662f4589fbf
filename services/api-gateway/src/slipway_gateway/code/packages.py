"""Ad-hoc packages: streamed to disk, looked into by another process, stored as they came."""

import asyncio
import base64
import hashlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from slipway_db import Database
from slipway_gateway.code import package_check
from slipway_gateway.code.archives import package_key
from slipway_gateway.code.domain import Commit
from slipway_gateway.code.store import CodeStore
from slipway_gateway.code.yaml_reader import YamlReader
from slipway_gateway.projects.domain import Project, yaml_path_problem
from slipway_kit.clock import Clock
from slipway_kit.errors import Invalid, TooLarge
from slipway_kit.tasks import run_blocking
from slipway_storage import ObjectStore

MAX_PACKAGE_BYTES = 1024**3
MAX_FIELD_BYTES = 64 * 1024
CHECK_TIMEOUT_SECONDS = 180.0
_BUFFER_BYTES = 1024**2


@dataclass
class ReceivedPackage:
    """A package on disk, with the text fields that came beside it."""

    path: Path
    size: int
    sha256: str
    fields: dict[str, str]


@asynccontextmanager
async def receive_package(
    body: AsyncIterator[bytes], content_type: str, work_dir: Path | None
) -> AsyncIterator[ReceivedPackage]:
    """Read a multipart body; memory stays flat whatever its size. The file is removed afterwards.

    Raises `Invalid` when it is no multipart body with a part `data`, `TooLarge` above 1 GiB.
    """
    kind, options = parse_options_header(content_type.encode())
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Invalid("Send the package as multipart/form-data with a part named data.", field="data", code="required")
    with tempfile.NamedTemporaryFile(prefix="slipway-package-", dir=work_dir) as file:
        receiver = _Receiver(file)
        parser = MultipartParser(boundary, receiver.callbacks())  # type: ignore[arg-type]
        try:
            async for chunk in body:
                parser.write(chunk)
                if receiver.buffered >= _BUFFER_BYTES:
                    await run_blocking(receiver.flush)
            parser.finalize()
        except MultipartParseError as error:
            raise Invalid(f"The multipart body cannot be read: {error}.", field="data", code="parse_error") from error
        await run_blocking(receiver.flush)
        if not receiver.complete:
            raise Invalid("The request ended before the package did. Send it again.", field="data", code="truncated")
        if not receiver.has_file:
            raise Invalid("The part named data is missing.", field="data", code="required")
        yield ReceivedPackage(Path(file.name), receiver.size, receiver.digest.hexdigest(), receiver.fields)


@dataclass
class _Receiver:
    """Takes the parser's callbacks: the part `data` goes to the file, other parts are small texts."""

    file: IO[bytes]
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    fields: dict[str, str] = field(default_factory=dict)
    has_file: bool = False
    complete: bool = False
    buffered: int = 0
    _buffer: list[bytes] = field(default_factory=list)
    _name: str = ""
    _text: bytearray = field(default_factory=bytearray)
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_ended,
            "on_part_data": self._data,
            "on_part_end": self._ended,
            "on_end": self._all_ended,
        }

    def flush(self) -> None:
        """Write and hash what has been buffered. Takes a thread's time, not the loop's."""
        for part in self._buffer:
            self.digest.update(part)
            self.file.write(part)
        self._buffer.clear()
        self.buffered = 0
        self.file.flush()

    def _begin(self) -> None:
        self._name = ""
        self._text.clear()

    def _header_ended(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._name = options.get(b"name", b"").decode(errors="replace")
            if self._name == "data":
                if self.has_file:
                    raise Invalid("The part named data came twice.", field="data")
                self.has_file = True
        for part in self._header:
            part.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "data":
            self.size += end - start
            if self.size > MAX_PACKAGE_BYTES:
                raise TooLarge("The package is larger than 1 GiB. Leave data out of it with a .vhignore file.")
            self._buffer.append(data[start:end])
            self.buffered += end - start
        elif len(self._text) + end - start > MAX_FIELD_BYTES:
            raise Invalid(f"The field {self._name} is longer than {MAX_FIELD_BYTES} bytes.", field=self._name[:64])
        else:
            self._text += data[start:end]

    def _ended(self) -> None:
        if self._name and self._name != "data":
            self.fields[self._name] = self._text.decode(errors="replace")

    def _all_ended(self) -> None:
        self.complete = True


class PackageService:
    """Takes ad-hoc packages. It opens units of work of its own and is called outside of any."""

    def __init__(self, db: Database, store: ObjectStore, reader: YamlReader, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._reader = reader
        self._clock = clock

    async def take(self, project: Project, package: ReceivedPackage) -> Commit:
        """Check a package, store it and give its commit. The same package again gives the same commit.

        Raises `Invalid` on `data`, `sha256` or `yaml_path`; nothing is stored then.
        """
        expected = package.fields.get("sha256", "").strip().lower().removeprefix("~")
        if expected and expected != package.sha256:
            raise Invalid(
                f"The package arrived with SHA-256 {package.sha256}, not {expected}. Send it again.",
                field="sha256",
                code="hash_mismatch",
            )
        identifier = f"~{package.sha256}"
        async with self._db.read() as session:
            known = await CodeStore(session).commit(project.id, identifier)
        if known is not None:
            return known
        yaml_path = package.fields.get("yaml_path", "").strip() or project.yaml_path
        problem = yaml_path_problem(yaml_path)
        if problem is not None:
            raise Invalid(problem, field="yaml_path")
        config, error = await self._reader.read(await _look_into(package.path, yaml_path))
        if error is not None:
            details = {"line": error.line, "hint": error.hint}
            raise Invalid(f"{yaml_path}: {error.text}", field="yaml_path", code="invalid_config", details=details)
        key = package_key(package.sha256)
        if await self._store.head(key) is None:
            await self._store.put(key, package.path)
        values = {
            "description": package.fields.get("description", "").replace("\0", ""),
            "commit_time": self._clock.now(),
            "yaml_path": yaml_path,
            "config": config,
            "archive_sha256": package.sha256,
        }
        async with self._db.transaction() as session:
            store = CodeStore(session)
            sha256 = package.sha256
            await store.add_archive(sha256, key=key, archive_format="tar.gz", size=package.size, stored_sha256=sha256)
            await store.add_adhoc(project.id, identifier, values)
            taken = await store.commit(project.id, identifier)
        if taken is None:
            raise LookupError("a commit that was just written cannot be read")
        return taken


async def _look_into(package: Path, yaml_path: str) -> bytes:
    """The content of the YAML file, read by a process of its own. Raises `Invalid`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", package_check.__file__, str(package), yaml_path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
    )
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            answer, _ = await process.communicate()
    except TimeoutError:
        raise Invalid("Looking into the package took too long.", field="data", code="invalid_package") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        result = json.loads(answer)
    except ValueError:
        raise Invalid("The package cannot be read within the limits.", field="data", code="invalid_package") from None
    if "yaml" in result:
        return base64.b64decode(result["yaml"])
    raise Invalid(result["message"], field=result["field"], code=result["code"])
