"""The platform as one attempt sees it: materials, upload tickets, outputs, log."""

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from pydantic import ValidationError

from slipway_kit.errors import Conflict, Unavailable
from slipway_kit.http import FixedToken, Neighbour
from slipway_schemas.attempts import (
    Materials,
    MaterialsRequest,
    OutputsAnswer,
    OutputsRequest,
    PartUrls,
    PartUrlsRequest,
    UploadRequest,
    UploadTicket,
)
from slipway_schemas.logs import LogsAnswer
from slipway_schemas.usage import UsageAnswer, UsageBatch

_CALL_SECONDS: Final = 60.0
_LOG_SECONDS: Final = 30.0
_USAGE_SECONDS: Final = 10.0
_PIECE_BYTES: Final = 256 * 1024


class Superseded(Exception):
    """Another attempt has taken over: nothing of this one is wanted any more."""


class AttemptPlatform:
    """Calls with the attempt's token. Raises `Superseded` where the platform says so, else what it answers."""

    def __init__(self, server_url: str, attempt_id: UUID, token: str) -> None:
        self._attempt = f"/workers/v1/attempts/{attempt_id}"
        self._api = Neighbour(server_url, FixedToken(token), "platform")

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def materials(self, request: MaterialsRequest) -> Materials:
        """What the attempt needs; URLs in it live 15 minutes."""
        try:
            return await self._api.post(
                f"{self._attempt}/materials", body=request, result=Materials, timeout=_CALL_SECONDS
            )
        except Conflict as error:
            raise _meaning(error) from error

    async def upload_ticket(self, request: UploadRequest) -> UploadTicket:
        """Where an output's bytes go."""
        try:
            return await self._api.post(
                f"{self._attempt}/uploads", body=request, result=UploadTicket, timeout=_CALL_SECONDS
            )
        except Conflict as error:
            raise _meaning(error) from error

    async def part_urls(self, datum_id: UUID, numbers: tuple[int, ...]) -> PartUrls:
        """More URLs of a multipart upload."""
        try:
            return await self._api.post(
                f"{self._attempt}/uploads/{datum_id}/parts", body=PartUrlsRequest(numbers=numbers), result=PartUrls
            )
        except Conflict as error:
            raise _meaning(error) from error

    async def register_outputs(self, request: OutputsRequest) -> OutputsAnswer:
        """Make uploaded files outputs of the execution."""
        try:
            return await self._api.post(
                f"{self._attempt}/outputs", body=request, result=OutputsAnswer, timeout=_CALL_SECONDS
            )
        except Conflict as error:
            raise _meaning(error) from error

    async def send_usage(self, batch: UsageBatch) -> UsageAnswer:
        """Have samples of what the run uses kept."""
        return await self._api.post("/workers/v1/usage", body=batch, result=UsageAnswer, timeout=_USAGE_SECONDS)

    async def send(self, frames: bytes) -> LogsAnswer:
        """Send log frames, or nothing to ask where to continue."""
        headers = {"Content-Type": "application/octet-stream"}
        async with self._api.stream(
            "POST", "/workers/v1/logs", headers=headers, content=_pieces(frames), timeout=_LOG_SECONDS
        ) as answer:
            body = b"".join([part async for part in answer.content])
        try:
            return LogsAnswer.model_validate_json(body)
        except ValidationError as error:
            raise Unavailable("The log service gave an answer that is none, or only a part of one.") from error


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    """The body in pieces, so that no send holds up the event loop."""
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


def _meaning(error: Conflict) -> Exception:
    return Superseded(error.message) if error.code == "superseded" else error
