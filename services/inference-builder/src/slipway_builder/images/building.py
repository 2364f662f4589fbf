"""Builds images: takes one at a time, keeps its lease, writes its log, and says how it ended."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from slipway_builder.channels import IMAGES
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.endpoints.store import EndpointStore
from slipway_builder.images.documents import metadata_document
from slipway_builder.images.protocol import BuildError, BuildLog, BuiltImage, CannotBuild, FileSource
from slipway_builder.images.store import BuildSource, ImageStore, LeasedImage
from slipway_builder.leasing import LeaseLost, held
from slipway_builder.materials import MaterialsClient
from slipway_builder.work_folders import WorkFolder
from slipway_db import Database, Doorbell
from slipway_kit.clock import Clock
from slipway_kit.errors import Conflict, SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait
from slipway_kit.transfer import TRANSFER_ERRORS, ClientSession
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.statuses import ImageStatus
from slipway_schemas.inference.versions import EndpointSpec, FileMaterial
from slipway_storage.transfer.download import download

_log = get_logger()

POLL_SECONDS = 1.0
MOST_TRIES = 5
_LINES_EVERY_SECONDS = 0.5
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BuildInput:
    """All of an image but where it goes: what the kind of target adds."""

    image_id: UUID
    lease: UUID
    """Names the try: what it makes outside of the database is its own, and can be told from another try's."""
    target_id: UUID
    deployment_id: UUID
    base: str
    code: Path
    files: tuple[FileSource, ...]
    metadata: JsonObject
    spec: EndpointSpec


class TargetBuilders(Protocol):
    """Gives the way in which images of a target are built."""

    async def build(self, wanted: BuildInput, log: BuildLog) -> tuple[str, BuiltImage]:
        """Build for the target; returns the name of the builder too. Raises as `ImageBuilder.build` does."""
        ...


class LineBuffer:
    """Collects the lines of a build until they are written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: list[tuple[datetime, str]] = []
        self.written = 0

    def __call__(self, line: str) -> None:
        """Add a line."""
        for part in line.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines() or [""]:
            self._lines.append((self._clock.now(), part))

    def take(self) -> tuple[int, list[tuple[datetime, str]]]:
        """The lines since the last call and the position of the first of them."""
        first, lines = self.written, self._lines
        self.written += len(lines)
        self._lines = []
        return first, lines


class ImageBuilds:
    """One builder at work. Several may run, in one process or in many: a lease says whose an image is."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        materials: MaterialsClient,
        session: ClientSession,
        builders: TargetBuilders,
        work: WorkFolder,
        clock: Clock,
        lease_seconds: float,
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._materials = materials
        self._session = session
        self._builders = builders
        self._work = work
        self._clock = clock
        self._lease_seconds = lease_seconds

    async def run(self) -> None:
        """Build until cancelled."""
        while True:
            since = asyncio.get_running_loop().time()
            async with self._db.transaction() as session:
                image = await ImageStore(session).lease(self._lease_seconds)
            if image is None:
                await self._doorbell.wait(IMAGES, POLL_SECONDS)
            else:
                async with self._db.transaction() as session:
                    await self._refresh(session, image)
                await self._build_leased(image, since)

    async def _build_leased(self, image: LeasedImage, since: float) -> None:
        lines = LineBuffer(self._clock)
        work = asyncio.create_task(self._build_held(image, lines, since))
        writer = asyncio.create_task(self._write_lines(image, lines))
        try:
            await asyncio.wait([work])
        finally:
            await cancel_and_wait(work)
            await cancel_and_wait(writer)
            await self._conclude(image, lines, work)

    async def _build_held(self, image: LeasedImage, log: LineBuffer, since: float) -> tuple[str, BuiltImage]:
        async with held(partial(self._renew, image), self._lease_seconds, since):
            return await self._build(image, log)

    async def _renew(self, image: LeasedImage) -> bool:
        async with self._db.transaction() as session:
            return await ImageStore(session).renew(image, self._lease_seconds)

    async def _write_lines(self, image: LeasedImage, lines: LineBuffer) -> None:
        while True:
            await asyncio.sleep(_LINES_EVERY_SECONDS)
            try:
                await self._write(image, lines)
            except SlipwayError as error:
                _log.warning("build_lines_not_written", image_id=str(image.id), error=error.message)

    async def _write(self, image: LeasedImage, lines: LineBuffer) -> None:
        first, taken = lines.take()
        if taken:
            async with self._db.transaction() as session:
                if await ImageStore(session).holds(image):
                    await ImageStore(session).add_lines(image.id, first, taken)

    async def _conclude(
        self, image: LeasedImage, lines: LineBuffer, work: asyncio.Task[tuple[str, BuiltImage]]
    ) -> None:
        later = min(60.0, 2.0**image.tries)
        failure = LeaseLost("This builder stops.") if work.cancelled() else work.exception()
        if isinstance(failure, SlipwayError):
            lines(failure.message)
        async with self._db.transaction() as session:
            store = ImageStore(session)
            deployment_id = await store.deployment_of(image.id)
            if deployment_id is not None:  # locked first, as by all who change what belongs to it
                await DeploymentStore(session).lock(deployment_id)
            first, taken = lines.take()
            match failure:
                case None:
                    builder, built = work.result()
                    ours = await store.built(image, builder, built)
                case LeaseLost() if await store.cancel_wanted(image):
                    ours = await store.failed(image, "The build was cancelled.", ImageStatus.CANCELLED)
                case LeaseLost():
                    ours = await store.again(image, "Waiting for a builder.", 0.0, counts=False)
                case Conflict(code="code_unavailable"):
                    ours = await store.again(image, "Waiting for the files of the commit.", 1.0, counts=False)
                case BuildError() | CannotBuild():
                    ours = await store.failed(image, failure.message)
                case _ if image.tries >= MOST_TRIES:
                    ours = await store.failed(image, f"Given up after {image.tries} tries. {_words(failure)}")
                case _:
                    _log.warning("image_build_interrupted", image_id=str(image.id), error=repr(failure))
                    ours = await store.again(image, f"{_words(failure)} Trying again.", later, counts=True)
            if not ours:
                return
            await store.add_lines(image.id, first, taken)
            await self._refresh(session, image)

    @staticmethod
    async def _refresh(session: Any, image: LeasedImage) -> None:
        deployment_id = await ImageStore(session).deployment_of(image.id)
        if deployment_id is not None:
            await EndpointService(session).refresh(deployment_id)

    async def _build(self, image: LeasedImage, log: LineBuffer) -> tuple[str, BuiltImage]:
        async with self._db.read() as session:
            source = await ImageStore(session).source(image.id)
            spec = await EndpointStore(session).of_image(image.id)
        if source is None or spec is None:
            raise BuildError("The version was deleted.")
        materials = await self._materials.for_build(
            source.project_id, source.code, [file.datum_id for file in spec.files]
        )
        if materials.code_url is None:
            raise Conflict("The files of the commit are not there yet.", code="code_unavailable")
        folder = self._work.path / str(image.token)
        folder.mkdir()
        try:
            code = folder / f"code.{materials.code_format}"
            log(f"Fetching the code of {source.code.identifier}.")
            expected: dict[Any, str] = {"sha256": materials.code_sha256} if materials.code_sha256 else {}
            await download(
                self._session,
                materials.code_url,
                code,
                expected_size=materials.code_size,
                expected=expected,
                hashes=(),
            )
            wanted = BuildInput(
                image_id=image.id,
                lease=image.token,
                target_id=image.target_id,
                deployment_id=source.deployment_id,
                base=image.base,
                code=code,
                files=tuple(self._sources(source, spec, {one.datum_id: one for one in materials.files})),
                metadata=metadata_document(source, spec),
                spec=spec,
            )
            return await self._builders.build(wanted, log)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _sources(
        self, source: BuildSource, spec: EndpointSpec, materials: Mapping[UUID, FileMaterial]
    ) -> Sequence[FileSource]:
        found = []
        for file in spec.files:
            material = materials.get(file.datum_id)
            if material is None or material.size is None:
                raise BuildError(f"The file {file.name} ({file.datum_name}) does not exist any more.")
            found.append(
                FileSource(
                    path=file.path,
                    size=material.size,
                    sha256=material.sha256,
                    open=_Opener(self._session, self._materials, source.project_id, file.datum_id),
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class _Opener:
    """Reads a file from the store, by a URL that is asked for when the reading begins."""

    session: ClientSession
    materials: MaterialsClient
    project_id: UUID
    datum_id: UUID

    async def __call__(self) -> AsyncIterator[bytes]:
        answer = await self.materials.for_build(self.project_id, None, [self.datum_id])
        try:
            async with self.session.get(answer.files[0].url) as response:
                if response.status != 200:
                    raise Unavailable(f"The object store answered {response.status} for datum {self.datum_id}.")
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    yield chunk
        except TRANSFER_ERRORS as error:
            raise Unavailable(f"The object store broke off while datum {self.datum_id} was read.") from error


def _words(failure: BaseException) -> str:
    return failure.message if isinstance(failure, SlipwayError) else f"{type(failure).__name__}: {failure}."
