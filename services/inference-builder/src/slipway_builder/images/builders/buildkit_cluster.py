"""Runs one build as a job in the cluster: starts it, follows what it says, and takes it away."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from slipway_builder.images.builders.buildkit_job import CONTAINER, IMAGE_ID, build_job, build_secret
from slipway_builder.images.builders.buildkit_pod import Fate, fate_of
from slipway_builder.images.protocol import BuildError, BuildLog, RegistryAccess
from slipway_builder.images.registry.manifests import DIGEST
from slipway_builder.targets.kubernetes.client import ClusterApi
from slipway_builder.targets.kubernetes.following import split_lines
from slipway_builder.targets.kubernetes.names import EVENT, JOB, POD, SECRET, Kind
from slipway_builder.targets.kubernetes.settings import BuildSettings, KubernetesTargetSettings
from slipway_kit.errors import NotFound, SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_kit.tasks import run_blocking

_log = get_logger()

_LOOK_SECONDS: Final = 0.5
_REMOVE_SECONDS: Final = 15.0
_AWAY_SECONDS: Final = 60.0
"""How long the cluster may give no answer while a build runs on in it."""
_OWNER: Final = "batch.kubernetes.io/controller-uid"


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What a job is to build and where it pushes it."""

    image_id: UUID
    output: str
    """`host/repository`; the image gets no tag."""
    dockerfile: str
    registry: RegistryAccess


class BuildEnded(SlipwayError):
    """The job ended without an image."""

    code = "build_ended"


class BuildCluster:
    """The namespace for builds of one cluster."""

    def __init__(self, settings: KubernetesTargetSettings, builds: BuildSettings) -> None:
        text = settings.kubeconfig.get_secret_value() if settings.kubeconfig is not None else None
        self._api = ClusterApi(text, settings.context, settings.request_seconds)
        self._builds = builds

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()

    async def run(self, order: BuildOrder, log: BuildLog) -> str:
        """Build in a job, which is gone afterwards; the digest of what it pushed.

        Raises `BuildEnded` when BuildKit ended with an error, `BuildError` when it ran out of time or memory,
        `Unavailable` when the cluster does not answer or does not run the job.
        """
        authority = ""
        if order.registry.ca_file is not None:
            authority = await run_blocking(order.registry.ca_file.read_text)
        async with self._job(order, authority) as uid:
            pod = await self._started(uid, log)
            try:
                async with asyncio.timeout(self._builds.run_seconds):
                    fate = await self._follow(uid, pod, log)
            except TimeoutError as error:
                raise BuildError(
                    f"The installation was ended after {self._builds.run_seconds} s; an administrator can give builds "
                    "more time (`builds.run_seconds` of the target).",
                    code="build_too_long",
                ) from error
        return self._result(fate)

    @asynccontextmanager
    async def _job(self, order: BuildOrder, authority: str) -> AsyncIterator[str]:
        """A job that is deleted afterwards, whatever happens; gives its uid."""
        jobs, image_id = JOB.path(self._builds.namespace), order.image_id
        for left in await self._list(JOB, labelSelector=f"{IMAGE_ID}={image_id}"):
            await self._api.delete(f"{jobs}/{left['metadata']['name']}")
        name = f"slipway-build-{image_id}-{secrets.token_hex(2)}"
        try:
            job = await self._create(JOB, build_job(name, image_id, order.output, self._builds))
            secret = build_secret(job, image_id, order.dockerfile, order.registry, authority)
            await self._create(SECRET, secret)
            yield str(job["metadata"]["uid"])
        finally:
            try:
                async with asyncio.timeout(_REMOVE_SECONDS):
                    await self._api.delete(f"{jobs}/{name}")
            except (SlipwayError, TimeoutError) as error:
                # It ends by its deadline, and the cluster removes it then.
                _log.warning("build_job_not_deleted", job=name, error=str(error))

    async def _started(self, uid: str, log: BuildLog) -> str:
        """Wait until the job's pod has begun to run; its name."""
        loop = asyncio.get_running_loop()
        until, said = loop.time() + self._builds.start_seconds, ""
        while True:
            pods = await self._list(POD, labelSelector=f"{_OWNER}={uid}")
            fate = fate_of(pods[0], CONTAINER) if pods else Fate(why=await self._refusal(uid))
            if fate.begun or fate.ended:
                return str(pods[0]["metadata"]["name"])
            if fate.hopeless or (fate.why and not pods):
                raise Unavailable(f"The cluster does not run the build: {fate.why}")
            if fate.why and fate.why != said:
                said = fate.why
                log(f"The build waits: {said}")
            if loop.time() > until:
                seconds = self._builds.start_seconds
                raise Unavailable(f"The build did not start within {seconds} s: {said or 'the cluster says no reason'}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _refusal(self, uid: str) -> str:
        """Why the cluster makes no pod of a job."""
        events = await self._list(EVENT, fieldSelector=f"type=Warning,involvedObject.uid={uid}")
        return str(events[-1].get("message", "")) if events else ""

    async def _follow(self, uid: str, pod: str, log: BuildLog) -> Fate:
        """Pass every line on until the pod has ended; goes on after the connection was lost."""
        loop = asyncio.get_running_loop()
        place, answered = _Place(), loop.time()
        while True:
            try:
                await self._read(pod, place, log)
                pods = await self._list(POD, labelSelector=f"{_OWNER}={uid}")
                if not pods:
                    return Fate(ended=True, why="its pod was deleted")
                fate = fate_of(pods[0], CONTAINER)
                if fate.ended:
                    return fate
                answered = loop.time()
            except NotFound:
                return Fate(ended=True, why="its pod was deleted")
            except Unavailable:
                if loop.time() - answered > _AWAY_SECONDS:
                    raise
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, pod: str, place: "_Place", log: BuildLog) -> None:
        query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
        if place.after:
            # The cluster counts whole seconds here; what was read before is skipped by its own time.
            query["sinceTime"] = f"{place.after[:19]}Z"
        path = f"{POD.path(self._builds.namespace, pod)}/log"
        async with aclosing(self._api.stream(path, query)) as pieces, aclosing(split_lines(pieces)) as lines:
            async for line in lines:
                stamp, _, text = line.decode(errors="replace").partition(" ")
                if place.passes(stamp):
                    log(text.rstrip("\r"))

    def _result(self, fate: Fate) -> str:
        if fate.out_of_memory:
            raise BuildError(
                "The installation used more memory than builds have; an administrator can give them more "
                "(`builds.memory_limit_bytes` of the target).",
                code="build_out_of_memory",
            )
        if fate.exit_code is None:
            raise Unavailable(f"The build was interrupted in the cluster: {fate.why or 'it says no reason'}.")
        if fate.exit_code != 0:
            raise BuildEnded(f"BuildKit ended with exit code {fate.exit_code} in the cluster.")
        try:
            digest = json.loads(fate.message)["containerimage.digest"]
        except (ValueError, KeyError, TypeError):
            digest = None
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise BuildEnded("BuildKit ended and does not say what it has built.")
        return digest

    async def _create(self, kind: Kind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._api.create(kind.path(self._builds.namespace), manifest)
        except NotFound as error:
            raise Unavailable(
                f"There is no namespace {self._builds.namespace} for builds in the cluster: {error.message}."
            ) from error

    async def _list(self, kind: Kind, **query: str) -> list[Mapping[str, Any]]:
        items = (await self._api.get(kind.path(self._builds.namespace), **query)).get("items")
        return items if isinstance(items, list) else []


class _Place:
    """How far a log has been read."""

    def __init__(self) -> None:
        self.after = ""

    def passes(self, stamp: str) -> bool:
        """Whether the line of this time was not read before."""
        if self.after and _key(stamp) <= _key(self.after):
            return False
        self.after = stamp
        return True


def _key(stamp: str) -> str:
    """Times of different precision, made comparable."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"
