"""What allows one upload: signed URLs, made by who holds the store's credentials."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway_storage.store import MAX_PART_NUMBER, UploadedPart


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class PutTicket(_Model):
    """The whole file in one PUT."""

    kind: Literal["put"] = "put"
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class PartUrl(_Model):
    """One part in one PUT. Part `number` (from 1) begins at byte `(number - 1) * part_bytes`."""

    number: int = Field(ge=1, le=MAX_PART_NUMBER)
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class MultipartTicket(_Model):
    """The file in parts of `part_bytes` (the last may be shorter).

    `done` are parts that the store has from an earlier try; they are not sent again. `parts` need not hold
    all URLs: the rest is asked for when needed.
    """

    kind: Literal["multipart"] = "multipart"
    part_bytes: int = Field(gt=0)
    parts: tuple[PartUrl, ...] = ()
    done: tuple[UploadedPart, ...] = ()


UploadTicket = Annotated[PutTicket | MultipartTicket, Field(discriminator="kind")]
