"""`data/` of the compatible API: files, their download, upload, tags and properties."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from slipway_gateway.data.store.datums import DatumFilter
from slipway_gateway.data.view_v0 import DatumV0, datum_v0
from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.envelope import List, V0Page
from slipway_gateway.v0.errors import required
from slipway_gateway.v0.queries import flag, uuid_or_none
from slipway_kit.body import json_or_form
from slipway_kit.errors import Invalid

router = APIRouter(prefix="/data", tags=["data"])

_CHUNK = 1024 * 1024


class UploadBegin(BaseModel):
    """A file that will be PUT to a signed URL."""

    project: UUID
    name: str
    size: int = Field(ge=0)


class PropertiesBody(BaseModel):
    """Properties of a file, under names of the caller's choice."""

    model_config = ConfigDict(extra="allow")


class UploadBegunV0(BaseModel):
    """PUT the bytes to `url` with exactly these headers, then POST to `complete`."""

    id: UUID
    url: str
    method: str = "PUT"
    headers: dict[str, str]
    complete: str


class UploadComplete(BaseModel):
    """What the uploaded file gets."""

    tags: list[str] = []
    properties: dict[str, Any] = {}


class TagsBody(BaseModel):
    """Tags to add, or to set."""

    tags: list[str]


class DatumUpdate(BaseModel):
    """What people may change of a file."""

    model_config = ConfigDict(extra="ignore")

    tags: list[str] | None = None


@router.get("/", response_model=V0Page[DatumV0])
async def list_data(
    query: List,
    user: CurrentUser,
    context: Context,
    project: UUID | None = None,
    output_execution: str | None = None,
    tag: Annotated[list[str] | None, Query()] = None,
    name: Annotated[str | None, Query(description="Part of the name.")] = None,
    deleted: str | None = None,
    purged: str | None = None,
) -> Any:
    """Files of the projects that the caller may see, newest first."""
    wanted = DatumFilter(
        project_id=project,
        output_execution_id=uuid_or_none("output_execution", output_execution),
        tags=tuple(one for value in tag or () for one in value.split(",") if one),
        name=name,
        deleted=flag("deleted", deleted, default=False),
        purged=flag("purged", purged, default=None),
    )
    page = await context.data.datums.page(user, wanted, query.page)
    return query.answer(page, [datum_v0(item) for item in page.items])


@router.post("/upload/", status_code=201, openapi_extra=body_schema(UploadBegin))
async def upload(request: Request, user: CurrentUser, context: Context) -> DatumV0 | UploadBegunV0:
    """Begin an upload, or take a whole file as a form with the parts `project`, `file` and, if wanted, `name`."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _receive(request, user, context)
    body = await json_or_form(UploadBegin)(request)
    begun, signed = await context.data.uploads.begin(user, body.project, body.name, body.size)
    return UploadBegunV0(
        id=begun.id, url=signed.url, headers=signed.headers, complete=f"/api/v0/data/upload/{begun.id}/complete/"
    )


@router.post(
    "/upload/{upload_id}/complete/", status_code=201, responses={409: {}}, openapi_extra=body_schema(UploadComplete)
)
async def complete_upload(
    upload_id: UUID,
    user: CurrentUser,
    context: Context,
    body: Annotated[UploadComplete, Depends(json_or_form(UploadComplete))],
) -> DatumV0:
    """Make a file of bytes that were PUT. Doing it again gives the same file."""
    datum = await context.data.uploads.complete(user, upload_id, tags=tuple(body.tags), properties=body.properties)
    return datum_v0(datum)


@router.get("/{datum_id}/")
async def get_datum(datum_id: UUID, user: CurrentUser, context: Context) -> DatumV0:
    """One file."""
    return datum_v0(await context.data.datums.get(user, datum_id))


@router.patch("/{datum_id}/", openapi_extra=body_schema(DatumUpdate))
@router.put("/{datum_id}/", openapi_extra=body_schema(DatumUpdate))
async def update_datum(
    datum_id: UUID,
    user: CurrentUser,
    context: Context,
    body: Annotated[DatumUpdate, Depends(json_or_form(DatumUpdate))],
) -> DatumV0:
    """Replace the tags of a file."""
    if body.tags is None:
        return datum_v0(await context.data.datums.get(user, datum_id))
    return datum_v0(await context.data.datums.set_tags(user, datum_id, body.tags, keep=False))


@router.get("/{datum_id}/download/", responses={409: {}})
async def download(datum_id: UUID, user: CurrentUser, context: Context) -> dict[str, str]:
    """A signed URL of the bytes, good for 15 minutes and for anybody who has it."""
    return {"url": await context.data.datums.download_url(user, datum_id)}


@router.post("/{datum_id}/purge/")
async def purge(datum_id: UUID, user: CurrentUser, context: Context) -> DatumV0:
    """Delete the bytes for good; the record stays, marked as purged."""
    return datum_v0(await context.data.datums.purge(user, datum_id))


@router.get("/{datum_id}/metadata/")
async def get_properties(datum_id: UUID, user: CurrentUser, context: Context) -> dict[str, Any]:
    """The properties of a file."""
    return (await context.data.datums.get(user, datum_id)).properties


@router.post("/{datum_id}/metadata/", openapi_extra=body_schema(PropertiesBody))
async def add_properties(
    datum_id: UUID,
    user: CurrentUser,
    context: Context,
    body: Annotated[PropertiesBody, Depends(json_or_form(PropertiesBody))],
) -> dict[str, Any]:
    """Add properties; a given key replaces the one that is there."""
    return (await context.data.datums.merge_properties(user, datum_id, body.model_extra or {})).properties


@router.post("/{datum_id}/tags/", openapi_extra=body_schema(TagsBody))
async def add_tags(
    datum_id: UUID, user: CurrentUser, context: Context, body: Annotated[TagsBody, Depends(json_or_form(TagsBody))]
) -> DatumV0:
    """Add tags to a file."""
    return datum_v0(await context.data.datums.set_tags(user, datum_id, body.tags, keep=True))


async def _receive(request: Request, user: CurrentUser, context: Context) -> DatumV0:
    # The parser keeps files in temporary files beyond 1 MiB, so memory stays flat.
    async with request.form(max_files=1, max_fields=100) as form:
        file = form.get("file") or form.get("data")
        if not isinstance(file, UploadFile):
            raise required("file")
        try:
            project = UUID(str(form.get("project", "")))
        except ValueError:
            raise Invalid("Name the project by its id.", field="project", code="required") from None
        tags = tuple(str(value) for value in form.getlist("tags"))
        name = str(form.get("name") or file.filename or "")
        datum = await context.data.uploads.receive(user, project, name, file.size or 0, _chunks(file), tags)
    return datum_v0(datum)


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK):
        yield chunk
