"""What has been uploaded of an attempt, on disk, so that nothing is sent twice and nothing is forgotten."""

import json
import os
from pathlib import Path

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


class UploadLedger:
    """A line per upload and one more when it is registered. The last line of an output counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_datum: dict[str, UploadedOutput] = {}
        for line in _lines(path):
            one = UploadedOutput.model_validate(line)
            self._by_datum[str(one.file.datum_id)] = one

    def uploads(self) -> list[UploadedOutput]:
        """All uploads, in the order in which they were made."""
        return list(self._by_datum.values())

    def names(self) -> set[str]:
        """Names of everything uploaded."""
        return {one.file.name for one in self._by_datum.values()}

    def find(self, found: FoundFile) -> UploadedOutput | None:
        """The upload of exactly this file."""
        for one in self._by_datum.values():
            if one.file.name == found.name and one.version == found.version:
                return one
        return None

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
        self._by_datum |= {str(one.file.datum_id): one for one in uploads}


def _lines(path: Path) -> list[object]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return [json.loads(line) for line in data[:whole].splitlines()]
