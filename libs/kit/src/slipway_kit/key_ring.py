"""The keys under which secrets are encrypted: one to write with, older ones to read with, replaced while running."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from slipway_kit.keys import KeyFileError

KEY_BYTES = 32
KEY_ID_LENGTH = 8


@dataclass(frozen=True)
class Key:
    """A key-encryption key. Its id follows from its bytes and says nothing about them."""

    id: str
    cipher: AESGCM
    file: Path


class KeyRing:
    """The key files of the installation. They are looked at again when they change, so a new key needs no restart."""

    def __init__(self, current_file: Path, older_dir: Path | None = None) -> None:
        self._current_file = current_file
        self._older_dir = older_dir
        self._seen = _state(current_file)
        self._current = read_key(current_file)

    def current(self) -> Key:
        """The key to write with. Raises `KeyFileError`."""
        state = _state(self._current_file)
        if state != self._seen:
            self._current, self._seen = read_key(self._current_file), state
        return self._current

    def find(self, key_id: str) -> Key | None:
        """The key with this id, to read with; None when no file holds it. Raises `KeyFileError`."""
        current = self.current()
        if current.id == key_id:
            return current
        return next((key for key in self.older() if key.id == key_id), None)

    def older(self) -> list[Key]:
        """Keys that are only read with. Raises `KeyFileError`."""
        if self._older_dir is None or not self._older_dir.is_dir():
            return []
        return [read_key(file) for file in sorted(self._older_dir.iterdir()) if file.is_file()]


def read_key(file: Path) -> Key:
    """A key: 32 bytes, raw or in hex. Raises `KeyFileError`."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read ({error.strerror}).") from error
    if len(raw) != KEY_BYTES:
        try:
            raw = bytes.fromhex(raw.decode("ascii").strip())
        except ValueError:
            raw = b""
    if len(raw) != KEY_BYTES:
        raise KeyFileError(f"{file} must hold {KEY_BYTES} random bytes, raw or as {2 * KEY_BYTES} hex digits.")
    return Key(sha256(raw).hexdigest()[:KEY_ID_LENGTH], AESGCM(raw), file)


def _state(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read ({error.strerror}).") from error
    return status.st_ino, status.st_mtime_ns, status.st_size
