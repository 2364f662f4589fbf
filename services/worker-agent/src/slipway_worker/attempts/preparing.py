"""Everything before the user's command: materials, code, image, inputs, configuration."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from slipway_kit.egress import EgressRules
from slipway_kit.errors import NotFound, SlipwayError, Unavailable
from slipway_kit.transfer import transfer_session
from slipway_runtime.config_files import write_config_files
from slipway_runtime.layout import ShimSpec
from slipway_schemas.attempts import CodeArchive, Materials, MaterialsRequest, ResolvedInput
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_storage.checksums import HashName
from slipway_storage.transfer import download
from slipway_worker.attempts.code_archive import unpack
from slipway_worker.attempts.controls import Controls
from slipway_worker.attempts.outcome import AttemptFailure
from slipway_worker.attempts.plan import make_plan, plain_variables
from slipway_worker.attempts.platform import AttemptPlatform
from slipway_worker.attempts.record import AttemptRecord
from slipway_worker.attempts.services import AttemptServices
from slipway_worker.cache.input_cache import CachedFile
from slipway_worker.images.pulling import ensure_image
from slipway_worker.inputs.fetching import InputFetcher

_CODE_HASHES: Final[tuple[HashName, ...]] = ("sha256",)

Want = Literal["code", "inputs", "secrets", "registry", "api"]


async def ask_materials(
    platform: AttemptPlatform, want: tuple[Want, ...], patience_seconds: float, on_trouble: Callable[[str], None]
) -> Materials:
    """Materials, waited for while the gateway is away. Raises `AttemptFailure` when it refuses, or for too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    pause = 0.2
    while True:
        try:
            answer = await platform.materials(MaterialsRequest(want=want))
        except SlipwayError as error:
            if not isinstance(error, Unavailable) and error.kind != "internal":
                raise AttemptFailure(_reason(error), error.message) from error
            if loop.time() > deadline:
                raise AttemptFailure(EndReason.INTERNAL, error.message, retryable=True) from error
            on_trouble(f"waiting for the platform: {error.message}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)
            continue
        on_trouble("")
        return answer


class Preparation:
    """The steps of one attempt before its launch. Doing them again gives the same."""

    def __init__(
        self, record: AttemptRecord, services: AttemptServices, platform: AttemptPlatform, say: Callable[[str], None]
    ) -> None:
        self._record = record
        self._services = services
        self._platform = platform
        self._say = say
        self._document = record.state.assignment.document
        self._controls = Controls.read(plain_variables(self._document))

    async def run(self, materials: Materials) -> ShimSpec:
        """Make everything ready; what is to be launched. Raises what `outcome.failure_of` understands."""
        layout, runtime = self._record.layout, self._services.runtime
        if self._controls.clean:
            self._say("VH_CLEAN: the input cache is emptied")
            await self._services.cache.clear()
        await self._unpack_code(materials.code)
        self._enter(AttemptPhase.PULLING)
        await ensure_image(
            runtime,
            self._document.spec.image,
            materials.registry,
            always=self._controls.no_image_cache,
            say=self._say,
        )
        self._enter(AttemptPhase.FETCHING)
        inputs = await self._fetch_inputs(materials.inputs)
        paths = runtime.paths(layout)
        await asyncio.to_thread(
            write_config_files, layout.valohai / "config", self._document, inputs, paths, materials.api
        )
        plan, notices = make_plan(
            layout,
            self._document,
            paths,
            self._services.settings,
            secrets={secret.name: secret.value for secret in materials.secrets},
            gpus=self._record.state.gpus,
            addresses=self._services.addresses,
        )
        prepared = await runtime.prepare(plan)
        for notice in (*notices, *prepared.notices):
            self._say(notice)
        return prepared.spec

    def _enter(self, phase: AttemptPhase) -> None:
        self._record.change(phase=phase)
        self._services.wake()

    async def _unpack_code(self, code: CodeArchive | None) -> None:
        if code is None:
            raise AttemptFailure(EndReason.CODE_UNAVAILABLE, "The gateway has no archive of the commit.")
        layout = self._record.layout
        repository = layout.valohai / "repository"
        await asyncio.to_thread(shutil.rmtree, repository, ignore_errors=True)
        layout.create()

        async def fill(target: Path) -> CachedFile:
            got = await download(
                self._services.transfers,
                code.url,
                target,
                expected_size=code.size,
                expected={"sha256": code.sha256},
                hashes=_CODE_HASHES,
                renew=self._new_code_url,
            )
            return CachedFile(key=key, size=got.size, md5="", sha1="", sha256=got.digests["sha256"])

        key = f"code:{code.sha256}"
        try:
            async with self._services.cache.entry(key, fill) as (archive, _, _):
                await asyncio.to_thread(unpack, archive, repository, code.format)
        except NotFound as error:
            raise AttemptFailure(
                EndReason.CODE_UNAVAILABLE, f"The commit's archive is not in the store: {error.message}"
            ) from error
        self._say(f"Commit {self._document.spec.code.identifier} unpacked ({code.size} bytes)")

    async def _new_code_url(self) -> str:
        materials = await self._platform.materials(MaterialsRequest(want=("code",)))
        return materials.code.url if materials.code is not None else ""

    async def _fetch_inputs(self, inputs: tuple[ResolvedInput, ...]) -> tuple[ResolvedInput, ...]:
        directory = self._record.layout.valohai / "inputs"
        # What an earlier try left is fetched again; most of it comes from the cache.
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        self._record.layout.create()

        async def renew() -> tuple[ResolvedInput, ...]:
            return (await self._platform.materials(MaterialsRequest(want=("inputs",)))).inputs

        rules = EgressRules(self._document.environment.allow_input_networks)
        async with transfer_session(egress=rules) as guarded:
            fetcher = InputFetcher(
                directory,
                plain=self._services.transfers,
                guarded=guarded,
                cache=None if self._controls.no_data_cache else self._services.cache,
                renew=renew,
                say=self._say,
            )
            return await fetcher.fetch(self._document.spec.inputs, inputs)


def _reason(error: SlipwayError) -> EndReason:
    """The gateway names the reason by the error's code; of what else it refuses, inputs are the usual cause."""
    try:
        return EndReason(error.code)
    except ValueError:
        return EndReason.INTERNAL if error.kind in {"unauthorized", "conflict"} else EndReason.INPUT_FAILED
