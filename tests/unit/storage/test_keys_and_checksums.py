"""Key layout, checksums and the Range header."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from slipway_kit.errors import Invalid
from slipway_storage.checksums import BackgroundHash, MultiHash
from slipway_storage.keys import code_key, data_key, log_key
from slipway_storage.local.ranges import ByteRange, UnsatisfiableRangeError, parse_range

ONE, TWO = UUID(int=1), UUID(int=2)


def test_key_layout() -> None:
    digest = "ab" * 32
    assert code_key(digest) == f"code/ab/{digest}.tar.zst"
    assert data_key(ONE, TWO, "dir/model.bin") == f"data/{ONE}/{TWO}/dir/model.bin"
    at = datetime(2026, 3, 9, tzinfo=UTC)
    assert log_key(ONE, TWO, 0, 41, at=at) == f"logs/2026/03/{ONE}/{TWO}/0-41.zst"


def test_wrong_parts_of_keys_are_refused() -> None:
    with pytest.raises(Invalid):
        code_key("AB" * 32)
    with pytest.raises(Invalid):
        data_key(ONE, TWO, "../x")
    with pytest.raises(Invalid):
        log_key(ONE, TWO, 5, 4, at=datetime(2026, 3, 9, tzinfo=UTC))


async def test_checksums_of_known_bytes() -> None:
    known = {
        "md5": "25f9e794323b453885f5181f1b624d0b",
        "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        "crc32c": "e3069283",
    }
    at_once = MultiHash()
    at_once.update(b"123456789")
    assert at_once.digests() == known
    async with BackgroundHash() as background:
        for digit in b"123456789":
            await background.update(bytes([digit]))
        assert await background.digests() == known


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=2-", ByteRange(2, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-30", ByteRange(0, 10)),
        ("bytes=5-500", ByteRange(5, 10)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=-", None),
    ],
)
def test_ranges(header: str | None, wanted: ByteRange | None) -> None:
    assert parse_range(header, 10) == wanted


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_ranges_past_the_end(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 10)
