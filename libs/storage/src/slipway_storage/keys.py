"""Which keys are legal, and where each kind of object lies in a store."""

import re
import unicodedata
from datetime import datetime
from uuid import UUID

from slipway_kit.errors import Invalid

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OWN_KEY = re.compile(
    rf"data/{_UUID}/{_UUID}/|code/[0-9a-f]{{2}}/[0-9a-f]{{64}}\.tar\.zst$|logs/\d{{4}}/\d\d/{_UUID}/{_UUID}/"
)


def check_key(key: str) -> str:
    """The key itself when every provider can store it under exactly this name.

    Raises `Invalid` for empty, `.` and `..` segments, a slash at either end, control characters, text that
    is not valid Unicode, keys over 1024 bytes (S3's limit) and segments over 255 bytes (the limit of file
    systems).
    """
    problem = _problem(key)
    if problem is not None:
        raise Invalid(f"The object key {key!r:.200} cannot be used: {problem}.", field="key")
    return key


def check_prefix(prefix: str) -> str:
    """A directory to list, without a slash at its end; "" is the whole store. Raises `Invalid`."""
    trimmed = prefix.removesuffix("/")
    return check_key(trimmed) if trimmed else ""


def _problem(key: str) -> str | None:
    if not key:
        return "it is empty"
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes"
    if any(unicodedata.category(char) == "Cc" for char in key):
        return "it has control characters"
    for segment in key.split("/"):
        if segment == "":
            return "it begins or ends with a slash, or has two in a row"
        if segment in {".", ".."}:
            return "it has a segment '.' or '..'"
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"it has a segment longer than {MAX_SEGMENT_BYTES} bytes"
    return None


def code_key(sha256: str) -> str:
    """Where the archive of a commit lies: named by the SHA-256 (hex) of its uncompressed tar."""
    if not _SHA256.fullmatch(sha256):
        raise Invalid("A code archive is named by 64 lower-case hex digits.", field="sha256")
    return f"code/{sha256[:2]}/{sha256}.tar.zst"


def data_key(project: UUID, datum: UUID, name: str) -> str:
    """Where the bytes of a datum lie; `name` may have directories."""
    return check_key(f"data/{project}/{datum}/{name}")


def is_slipway_key(key: str) -> bool:
    """Whether a key is one of those that this module makes: what else lies in a bucket is somebody else's."""
    return _OWN_KEY.match(key) is not None


def log_key(execution: UUID, attempt: UUID, first_line: int, last_line: int, *, at: datetime) -> str:
    """Where a log segment of an attempt lies; `at` (UTC) is the day that retention goes by."""
    if not 0 <= first_line <= last_line:
        raise Invalid("A log segment's last line is not before its first.", field="last_line")
    return f"logs/{at:%Y}/{at:%m}/{execution}/{attempt}/{first_line}-{last_line}.zst"
