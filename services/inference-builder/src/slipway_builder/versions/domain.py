"""Names of versions."""

import re
from collections.abc import Iterable
from datetime import datetime


def next_name(now: datetime, taken: Iterable[str]) -> str:
    """`YYYYMMDD.N`: N counts from 0, per deployment and day (contract 4.2)."""
    day = f"{now:%Y%m%d}"
    numbers = [int(match[1]) for name in taken if (match := re.fullmatch(rf"{day}\.(\d{{1,9}})", name))]
    return f"{day}.{max(numbers, default=-1) + 1}"
