"""What has been uploaded of an attempt, on disk, so that nothing is sent twice and nothing is forgotten."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from slipway_schemas.attempts import OutputFile
from slipway_worker.outputs.walking import FoundFile


class UploadedOutput(BaseModel):
    """An upload that the store has. `file` is what the gateway is told."""

    model_config = ConfigDict(frozen=True)

    file: OutputFile
    version: tuple[int, int, int]
    live: bool
    registered: bool = False
    lost: bool = False
    """The store turned out not to have it: the file is uploaded again."""


class UploadLedger:
    """A line per upload, one more when it is registered or lost. The last line of an output counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_datum: dict[UUID, UploadedOutput] = {}
        self._by_file: dict[tuple[str, tuple[int, int, int]], UploadedOutput] = {}
        for line in _lines(path):
            self._keep(UploadedOutput.model_validate(line))

    def uploads(self) -> list[UploadedOutput]:
        """All uploads, in the order in which they were made."""
        return list(self._by_datum.values())

    def names(self) -> set[str]:
        """Names of everything uploaded."""
        return {one.file.name for one in self._by_datum.values()}

    def find(self, found: FoundFile) -> UploadedOutput | None:
        """The upload of exactly this file."""
        return self._by_file.get((found.name, found.version))

    def unregistered(self) -> list[UploadedOutput]:
        """Uploads that the gateway has not registered."""
        return [one for one in self._by_datum.values() if not one.registered]

    def write(self, uploads: list[UploadedOutput]) -> None:
        """Remember uploads; they are on disk when this returns."""
        if not uploads:
            return
        text = "".join(f"{one.model_dump_json()}\n" for one in uploads)
        with self._path.open("ab", buffering=0) as file:
            file.write(text.encode())
            os.fsync(file.fileno())
        for one in uploads:
            self._keep(one)

    def forget(self, datums: Collection[UUID]) -> None:
        """The store has not got these after all."""
        self.write([one.model_copy(update={"lost": True}) for key, one in self._by_datum.items() if key in datums])

    def _keep(self, one: UploadedOutput) -> None:
        place = (one.file.name, one.version)
        if one.lost:
            self._by_datum.pop(one.file.datum_id, None)
            self._by_file.pop(place, None)
        else:
            self._by_datum[one.file.datum_id] = one
            self._by_file[place] = one


def _lines(path: Path) -> list[object]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return [json.loads(line) for line in data[:whole].splitlines()]
