"""Uploads in parts on the local store: one private directory each, until completed or aborted. Blocking."""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from slipway_kit.errors import Invalid, NotFound
from slipway_storage.local.files import PRIVATE_DIRECTORY, LocalFiles, OpenFile
from slipway_storage.store import MultipartUpload, UploadedPart, check_parts

UPLOADS = f"{PRIVATE_DIRECTORY}/uploads"

_MANIFEST = "upload.json"
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_COPY_BYTES = 1024 * 1024


def etag_of(status: os.stat_result) -> str:
    """Changes with every replacement, because a replacement is another file; survives the rename into
    place."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


class LocalUploads:
    """The uploads in parts of one store."""

    def __init__(self, files: LocalFiles) -> None:
        self._files = files

    def create(self, upload_id: str, key: str) -> None:
        """Begin an upload."""
        name, file = self._files.create_temporary()
        try:
            file.write(json.dumps({"key": key}).encode())
            file.sync()
        finally:
            file.close()
        self._files.publish(name, f"{UPLOADS}/{upload_id}/{_MANIFEST}")

    def check(self, upload: MultipartUpload) -> str:
        """The upload's directory. Raises `NotFound` when it is over or was never begun for this key."""
        path = f"{UPLOADS}/{upload.upload_id}"
        file = self._files.open(f"{path}/{_MANIFEST}") if _UPLOAD_ID.fullmatch(upload.upload_id) else None
        if file is None:
            raise NotFound(f"The upload of {upload.key!r} is over or was never begun. Begin a new one.")
        try:
            manifest = json.loads(file.read(0, file.stat.st_size))
        finally:
            file.close()
        if manifest["key"] != upload.key:
            raise NotFound(f"The upload of {upload.key!r} is over or was never begun. Begin a new one.")
        return path

    def publish_part(self, upload: MultipartUpload, number: int, temporary: str) -> None:
        """Move a synced temporary file to its place as a part."""
        self._files.publish(temporary, f"{self.check(upload)}/{number}")

    def parts(self, upload: MultipartUpload) -> list[UploadedPart]:
        """The parts that are there, by number."""
        path = self.check(upload)
        found = []
        try:
            with self._files.directory(path) as directory:
                for name in os.listdir(directory):
                    if name.isdecimal():
                        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found.append(UploadedPart(number=int(name), etag=etag_of(status), size=status.st_size))
        except FileNotFoundError:
            raise NotFound(f"The upload of {upload.key!r} was ended by someone else.") from None
        return sorted(found, key=lambda part: part.number)

    def join(self, upload: MultipartUpload, parts: Sequence[UploadedPart], target: OpenFile) -> None:
        """Append the parts, each checked against its ETag, to a temporary file. Raises `Invalid`."""
        ordered = check_parts(parts)
        present = {part.number: part for part in self.parts(upload)}
        for part in ordered:
            if part.number not in present or present[part.number].etag != part.etag:
                raise Invalid(
                    f"Part {part.number} of the upload of {upload.key!r} is missing or was sent again since. "
                    "List the parts, send what is missing and complete the upload again.",
                    field="parts",
                )
        path = self.check(upload)
        for part in ordered:
            source = self._files.open(f"{path}/{part.number}")
            if source is None:
                raise NotFound(f"The upload of {upload.key!r} was ended by someone else.")
            try:
                position = 0
                while chunk := source.read(position, _COPY_BYTES):
                    target.write(chunk)
                    position += len(chunk)
            finally:
                source.close()

    def remove(self, upload_id: str) -> None:
        """Forget an upload and its parts; what is not there is no error."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            return
        with suppress(FileNotFoundError), self._files.directory(UPLOADS) as directory:
            shutil.rmtree(upload_id, dir_fd=directory)

    def list(self) -> Iterator[tuple[MultipartUpload, float]]:
        """Every upload, and when it was begun or last added to (seconds since the epoch)."""
        try:
            with self._files.directory(UPLOADS) as directory:
                names = os.listdir(directory)
        except FileNotFoundError:
            return
        for name in names:
            file = self._files.open(f"{UPLOADS}/{name}/{_MANIFEST}")
            if file is None:
                continue
            try:
                key = json.loads(file.read(0, file.stat.st_size))["key"]
            finally:
                file.close()
            with suppress(FileNotFoundError), self._files.directory(f"{UPLOADS}/{name}") as directory:
                yield MultipartUpload(key=key, upload_id=name), os.fstat(directory).st_mtime
