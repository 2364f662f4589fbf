"""Values that a database can keep: no NUL, no half of a surrogate pair, no number without end, integers that fit."""

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator, model_validator

Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""An integer that fits a column of 4 bytes."""
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An integer that fits a column of 8 bytes."""
Natural32 = Annotated[int, Field(ge=0, lt=2**31)]
"""The same, not negative."""
Natural64 = Annotated[int, Field(ge=0, lt=2**63)]
"""The same, not negative."""

NOT_STORABLE = "This holds a NUL, half of a character, or a number without end."
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(value: object) -> bool:
    """Whether a database can keep all that is inside."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if "\0" in one or (not one.isascii() and _UNSTORABLE.search(one)):
                return False
        elif isinstance(one, float) and not math.isfinite(one):
            return False
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
    return True


def made_storable(value: Any) -> Any:
    """The same with U+FFFD for what cannot be kept of texts, and null for numbers without end."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {made_storable(key): made_storable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [made_storable(one) for one in value]
    return value


class Storable(BaseModel):
    """Refuses what a database cannot keep."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_unstorable(cls, value: Any) -> Any:
        if not is_storable(value):
            raise ValueError(NOT_STORABLE)
        return value


class MadeStorable(BaseModel):
    """Replaces what a database cannot keep: refusing a worker's report would only make it come again."""

    @model_validator(mode="before")
    @classmethod
    def _replace_unstorable(cls, data: Any) -> Any:
        return data if is_storable(data) else made_storable(data)
