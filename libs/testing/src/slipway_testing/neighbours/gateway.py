"""A gateway that knows the materials of attempts, and a real local store beside it."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway_kit.auth import AttemptVerifier
from slipway_kit.errors import Invalid
from slipway_kit.ids import new_id
from slipway_schemas.attempts import (
    Materials,
    MaterialsRequest,
    OutputFile,
    OutputsAnswer,
    OutputsRequest,
    PartUrls,
    PartUrlsRequest,
    UploadRequest,
    UploadTicket,
)
from slipway_storage.config import LocalStoreConfig
from slipway_storage.local.store import LocalStore
from slipway_storage.store import MultipartUpload, UploadedPart

_LIFE = timedelta(minutes=15)


@dataclass
class KeptOutputs:
    """What an attempt has uploaded and registered."""

    tickets: dict[tuple[str, str], UploadTicket] = field(default_factory=dict)
    multiparts: dict[UUID, MultipartUpload] = field(default_factory=dict)
    files: dict[UUID, OutputFile] = field(default_factory=dict)
    late: dict[str, dict[str, object]] = field(default_factory=dict)

    def by_name(self) -> dict[str, OutputFile]:
        """Registered files; of one name the last."""
        return {file.name: file for file in self.files.values()}


class GatewayNeighbour:
    """The worker API of a gateway. `part_size` = 0: every upload is a single PUT."""

    def __init__(self, verifier: AttemptVerifier, directory: Path, store_url: str) -> None:
        self._verifier = verifier
        self.store = LocalStore(LocalStoreConfig(path=directory, signing_key=SecretStr("k" * 40), public_url=store_url))
        self.materials: dict[UUID, Materials] = {}
        self.outputs: dict[UUID, KeptOutputs] = {}
        self.superseded: set[UUID] = set()
        self.part_size = 0

    async def url_of(self, key: str) -> str:
        """A signed URL for reading."""
        return await self.store.sign_get(key, expires=_LIFE)

    async def content(self, attempt_id: UUID, name: str) -> bytes:
        """Bytes of a registered output."""
        return await self.store.get(f"data/{self.outputs[attempt_id].by_name()[name].datum_id}")

    async def handle_materials(self, request: Request) -> Response:
        """`POST …/materials`."""
        attempt_id = self._attempt(request)
        if attempt_id in self.superseded:
            return _conflict()
        wanted = MaterialsRequest.model_validate_json(await request.body()).want
        materials = self.materials[attempt_id]
        unwanted: dict[str, object] = {"code": None, "inputs": (), "secrets": (), "registry": None, "api": {}}
        changes = {name: empty for name, empty in unwanted.items() if name not in wanted}
        return JSONResponse(materials.model_copy(update=changes).model_dump(mode="json"))

    async def handle_upload(self, request: Request) -> Response:
        """`POST …/uploads`."""
        kept = self.outputs.setdefault(self._attempt(request), KeptOutputs())
        wanted = UploadRequest.model_validate_json(await request.body())
        ticket = kept.tickets.get((wanted.name, wanted.version))
        if ticket is None or ticket.datum_id in kept.files:
            ticket = await self._ticket(kept, wanted)
            kept.tickets[wanted.name, wanted.version] = ticket
        elif ticket.multipart:
            parts = await self.store.list_parts(kept.multiparts[ticket.datum_id])
            ticket = ticket.model_copy(update={"uploaded_parts": {part.number: part.etag for part in parts}})
        return JSONResponse(ticket.model_dump(mode="json"))

    async def handle_parts(self, request: Request) -> Response:
        """`POST …/uploads/{datum}/parts`."""
        kept = self.outputs[self._attempt(request)]
        upload = kept.multiparts[UUID(request.path_params["datum"])]
        numbers = PartUrlsRequest.model_validate_json(await request.body()).numbers
        urls = {n: (await self.store.sign_part(upload, n, expires=_LIFE)).url for n in numbers}
        return JSONResponse(PartUrls(part_urls=urls).model_dump(mode="json"))

    async def handle_outputs(self, request: Request) -> Response:
        """`POST …/outputs`."""
        attempt_id = self._attempt(request)
        kept = self.outputs.setdefault(attempt_id, KeptOutputs())
        wanted = OutputsRequest.model_validate_json(await request.body())
        for file in wanted.files:
            if file.datum_id in kept.files:
                continue
            upload = kept.multiparts.get(file.datum_id)
            if upload is not None:
                parts = [UploadedPart(number=number, etag=etag) for number, etag in file.etags.items()]
                try:
                    await self.store.complete_multipart(upload, parts)
                except Invalid as error:
                    return _incomplete(error, file.datum_id)
            kept.files[file.datum_id] = file
        kept.late |= wanted.properties
        return JSONResponse(OutputsAnswer(registered=len(kept.files)).model_dump(mode="json"))

    async def _ticket(self, kept: KeptOutputs, wanted: UploadRequest) -> UploadTicket:
        datum_id = new_id()
        key = f"data/{datum_id}"
        if self.part_size and wanted.size > self.part_size:
            upload = await self.store.create_multipart(key)
            kept.multiparts[datum_id] = upload
            first = await self.store.sign_part(upload, 1, expires=_LIFE)
            return UploadTicket(datum_id=datum_id, multipart=True, part_size=self.part_size, part_urls={1: first.url})
        put = await self.store.sign_put(key, expires=_LIFE, size=wanted.size)
        return UploadTicket(datum_id=datum_id, multipart=False, url=put.url, headers=put.headers)

    def _attempt(self, request: Request) -> UUID:
        claims = self._verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
        if str(claims.attempt_id) != request.path_params["attempt"]:
            raise ValueError("the token is another attempt's")
        return claims.attempt_id


def _incomplete(error: Invalid, datum_id: UUID) -> Response:
    details = {"datum_id": str(datum_id)}
    body = {"title": "no", "status": 409, "detail": error.message, "code": "upload_incomplete", "details": details}
    return JSONResponse(body, 409)


def _conflict() -> Response:
    return JSONResponse({"title": "over", "status": 409, "detail": "over", "code": "superseded"}, 409)
