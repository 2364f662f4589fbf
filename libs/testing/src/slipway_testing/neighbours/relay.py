"""A log service that keeps frames in memory and can lose what is not durable."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import google_crc32c
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway_kit.auth import AttemptVerifier
from slipway_schemas.logs import FRAME_HEADER, FrameFlag, FrameHeader, LogsAnswer, LogStream, split_lines
from slipway_schemas.usage import UsageAnswer, UsageBatch, UsageSample


@dataclass
class KeptLog:
    """What the service has of one attempt."""

    lines: list[tuple[LogStream, bytes]] = field(default_factory=list)
    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    durable: int = 0
    ended: bool = False
    requests: int = 0
    times_us: list[tuple[LogStream, int]] = field(default_factory=list)
    """Stream and time of each chunk that was taken."""

    def stream(self, stream: LogStream) -> bytes:
        """All bytes of one stream."""
        return b"".join(data for one, data in self.lines if one == stream)

    def statuses(self) -> list[str]:
        """The worker's status lines."""
        return self.stream(LogStream.STATUS).decode().splitlines()


class RelayNeighbour:
    """`POST /workers/v1/logs` with the semantics of `next` and `durable`.

    `hold_durable` keeps lines in memory only, so that `forget` loses them; `refusing` answers 503.
    """

    def __init__(self, verifier: AttemptVerifier) -> None:
        self._verifier = verifier
        self.logs: dict[UUID, KeptLog] = {}
        self.hold_durable = False
        self.refusing = False
        self.superseded: set[UUID] = set()
        self.usage: dict[UUID, list[UsageSample]] = {}
        self.problems: list[str] = []
        self.after_request: Callable[[KeptLog], None] | None = None

    def forget(self, attempt_id: UUID) -> int:
        """Lose everything that is not durable, as when Redis is lost; the number of lines lost."""
        log = self.logs[attempt_id]
        lost = len(log.lines) - log.durable
        del log.lines[log.durable :]
        log.ended = False
        return lost

    async def handle(self, request: Request) -> Response:
        """Take frames."""
        claims = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        body = await request.body()
        if self.refusing:
            return JSONResponse({"title": "away", "status": 503, "detail": "away", "code": "unavailable"}, 503)
        if claims.attempt_id in self.superseded:
            return JSONResponse({"title": "over", "status": 409, "detail": "over", "code": "superseded"}, 409)
        log = self.logs.setdefault(claims.attempt_id, KeptLog())
        log.requests += 1
        self._take(log, body)
        if not self.hold_durable:
            log.durable = len(log.lines)
        answer = LogsAnswer(next=len(log.lines), durable=log.durable, metadata_next=len(log.records))
        if self.after_request is not None:
            self.after_request(log)
        return JSONResponse(answer.model_dump())

    async def handle_usage(self, request: Request) -> Response:
        """Take samples."""
        claims = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        batch = UsageBatch.model_validate_json(await request.body())
        if self.refusing:
            return JSONResponse({"title": "away", "status": 503, "detail": "away", "code": "unavailable"}, 503)
        self.usage.setdefault(claims.attempt_id, []).extend(batch.samples)
        return JSONResponse(UsageAnswer(stored=len(batch.samples)).model_dump())

    def _take(self, log: KeptLog, body: bytes) -> None:
        position = 0
        while position < len(body):
            header = FrameHeader.unpack(body, position)
            start = position + FRAME_HEADER.size
            payload = body[start : start + header.length]
            position = start + header.length
            if google_crc32c.value(payload) != header.crc32c or len(payload) != header.length:
                self.problems.append(f"frame {header} has a wrong checksum or length")
            if header.stream == LogStream.METADATA:
                self._take_records(log, header, json.loads(payload))
            elif header.first == len(log.lines):
                self._take_lines(log, header, payload)

    def _take_lines(self, log: KeptLog, header: FrameHeader, payload: bytes) -> None:
        stream = LogStream(header.stream)
        lines = split_lines(payload)
        if len(lines) != header.lines:
            self.problems.append(f"frame {header} has {len(lines)} lines")
        if (
            header.lines
            and header.offset != len(log.stream(stream) if len(log.lines) < 1000 else b"")
            and (len(log.lines) < 1000)
        ):
            self.problems.append(f"frame {header} has a wrong offset")
        log.lines += ((stream, line) for line in lines)
        log.times_us.append((stream, header.time_us))
        log.ended = log.ended or bool(header.flags & FrameFlag.END)

    @staticmethod
    def _take_records(log: KeptLog, header: FrameHeader, records: list[tuple[int, dict[str, Any]]]) -> None:
        if header.first > len(log.records):
            return
        log.records += [(time, values) for time, values in records[len(log.records) - header.first :]]
