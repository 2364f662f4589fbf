"""Times of lines."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_utc(time_us: int) -> str:
    """ISO time without zone and with exactly six fractional digits: the client cuts it by position (contract 1.3)."""
    return moment_of(time_us).strftime("%Y-%m-%dT%H:%M:%S.%f")


def moment_of(time_us: int) -> datetime:
    """The time as a datetime, to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_us)


def time_us_of(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
