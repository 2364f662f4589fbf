"""The target of kind `kubernetes`."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from slipway_builder.targets.kubernetes.checking import KEDA_API, NO_KEDA, check_cluster
from slipway_builder.targets.kubernetes.client import ClusterApi, NotAllowed, Refused
from slipway_builder.targets.kubernetes.drift import Owned
from slipway_builder.targets.kubernetes.following import Follower
from slipway_builder.targets.kubernetes.manifests import Manifest, autoscaled, manifests, sleeps
from slipway_builder.targets.kubernetes.names import (
    AUTOSCALER,
    BUDGET,
    DEPLOYMENT,
    ENDPOINT_ID,
    EVENT,
    FIELD_MANAGER,
    INSTALLATION,
    KINDS,
    NETWORK_POLICY,
    POD,
    SCALED_OBJECT,
    SECRET,
    SERVICE,
    Kind,
    object_name,
    pull_secret_name,
)
from slipway_builder.targets.kubernetes.observing import Listing, Seen, seen
from slipway_builder.targets.kubernetes.pods import CONTAINER
from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_builder.targets.kubernetes.words import LAST_LINES
from slipway_builder.targets.protocol import EndpointRevision, Observation, ReplicaLine, TargetCheck
from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import Invalid, NotFound, SlipwayError, Unavailable, invalid_from_validation
from slipway_schemas.inference.statuses import TargetKind

_HANDOVER_MANAGER = "slipway-scale"
"""Holds the number of replicas while it goes from Slipway to the autoscaler, so that it never falls to one."""

_SCALERS = (AUTOSCALER, SCALED_OBJECT)

_UNSEEN = (*_SCALERS, BUDGET, NETWORK_POLICY)
"""Kinds whose objects are listed to see that they are there and unchanged, and of KEDA's what it says to them."""

_LOG_BYTES = 16 * 1024
_LOGS_AT_ONCE = 8


class KubernetesTarget:
    """Serves endpoints from one namespace of a cluster.

    `installation` tells this target's objects from those of another Slipway in the same namespace; `key` is a secret
    of the installation.
    """

    def __init__(self, settings: KubernetesTargetSettings, installation: str, key: bytes, clock: Clock) -> None:
        text = settings.kubeconfig.get_secret_value() if settings.kubeconfig is not None else None
        self._settings = settings
        self._installation = installation
        self._key = key
        self._clock = clock
        self._api = ClusterApi(text, settings.context, settings.request_seconds)
        self._owned = Owned()

    @property
    def kind(self) -> TargetKind:
        """Its kind."""
        return TargetKind.KUBERNETES

    @property
    def settings(self) -> KubernetesTargetSettings:
        """What the administrator said of it."""
        return self._settings

    async def check(self) -> tuple[TargetCheck, ...]:
        """Test the connection and every right that is needed; changes nothing."""
        return await check_cluster(self._api, self._settings)

    async def apply(self, revision: EndpointRevision) -> None:
        """Apply all objects on the server's side and remove those that are no longer wanted.

        Raises `Unavailable` when the cluster does not answer or lacks the namespace or a right, `Invalid` when it
        refuses the revision.
        """
        found = manifests(revision, self._settings, self._installation, self._key)
        if revision.scale.to_zero:
            await self._check_keda()
        wanted = {(one["kind"], one["metadata"]["name"]) for one in found}
        unwanted = [one for one in _possible(revision.endpoint_id) if (one[0].kind, one[1]) not in wanted]
        # Of two scalers of one deployment KEDA refuses the second one.
        for kind, name in unwanted:
            if kind in _SCALERS:
                await self._delete(kind, name)
        try:
            live = [await self._apply(revision, manifest) for manifest in found]
        except NotFound as error:
            raise Unavailable(f"The cluster lacks what endpoints need: {error.message}.") from error
        for kind, name in unwanted:
            if kind not in _SCALERS:
                await self._delete(kind, name)
        self._owned.applied(revision.endpoint_id, live)

    async def remove(self, endpoint_id: UUID) -> None:
        """Delete all objects; the deployment last, which `observe` shows until its last pod is gone."""
        self._owned.forget(endpoint_id)
        for kind, name in reversed(_possible(endpoint_id)):
            if kind is not DEPLOYMENT:
                await self._delete(kind, name)
        path = DEPLOYMENT.path(self._settings.namespace, object_name(endpoint_id))
        await self._api.delete(path, propagation="Foreground")

    async def observe(self) -> Mapping[UUID, Observation]:
        """List deployments, services, pods and warnings once, and say what they mean."""
        ours = f"{INSTALLATION}={self._installation},{ENDPOINT_ID}"
        deployments, services, pods, events, *others = await asyncio.gather(
            self._list(DEPLOYMENT, labelSelector=ours),
            self._list(SERVICE, labelSelector=ours),
            self._list(POD, labelSelector=ours),
            self._list(EVENT, fieldSelector="type=Warning,involvedObject.kind=Pod", resourceVersion="0"),
            *(self._list_others(kind, ours) for kind in _UNSEEN),
        )
        listed = {DEPLOYMENT.kind: deployments, SERVICE.kind: services}
        listed |= {kind.kind: some for kind, some in zip(_UNSEEN, others, strict=True) if some is not None}
        scaled = listed.get(SCALED_OBJECT.kind, [])
        found = seen(Listing(deployments, services, pods, events, scaled), self._clock.now())
        for one in itertools.chain.from_iterable(listed.values()):
            endpoint_id = UUID(one["metadata"]["labels"][ENDPOINT_ID])
            found.setdefault(endpoint_id, Seen(Observation(endpoint_id, 0, 0, 0, detail="Most of it is missing.")))
        for endpoint_id in self._owned.drifted(listed) & found.keys():
            one_seen = found[endpoint_id]
            found[endpoint_id] = replace(one_seen, observation=replace(one_seen.observation, drifted=True))
        gate = asyncio.Semaphore(_LOGS_AT_ONCE)
        told = await asyncio.gather(*(self._tell(one, gate) for one in found.values()))
        return {one.endpoint_id: one for one in told}

    async def logs(
        self, endpoint_id: UUID, *, since: datetime, known: Mapping[str, datetime] | None = None
    ) -> AsyncGenerator[ReplicaLine, None]:
        """Follow all replicas, also those that come later and servers that are started again."""
        ours = f"{INSTALLATION}={self._installation},{ENDPOINT_ID}={endpoint_id}"

        async def pods() -> list[Mapping[str, Any]]:
            return await self._list(POD, labelSelector=ours)

        follower = Follower(self._api, self._settings.namespace, pods, since, known or {})
        async with aclosing(follower.lines()) as lines:
            async for line in lines:
                yield line

    async def aclose(self) -> None:
        """Close the connections; what serves goes on."""
        await self._api.aclose()

    async def _apply(self, revision: EndpointRevision, manifest: Manifest) -> Manifest:
        kind = KINDS[manifest["kind"]]
        path = kind.path(self._settings.namespace, manifest["metadata"]["name"])
        if kind is DEPLOYMENT and (autoscaled(revision) or sleeps(revision)):
            return await self._apply_autoscaled(path, manifest, may_sleep=sleeps(revision))
        return await self._api.apply(path, manifest)

    async def _delete(self, kind: Kind, name: str) -> None:
        try:
            await self._api.delete(kind.path(self._settings.namespace, name))
        except NotAllowed:
            # Where nothing sleeps the account needs no right on KEDA's objects, and has made none.
            if kind is not SCALED_OBJECT:
                raise

    async def _check_keda(self) -> None:
        try:
            await self._api.get(KEDA_API)
        except NotFound as error:
            raise Refused(NO_KEDA) from error

    async def _apply_autoscaled(self, path: str, manifest: Manifest, *, may_sleep: bool) -> Manifest:
        """Apply without touching the number of replicas, which is the autoscaler's.

        A field that its last manager no longer names falls back to its default, here one replica. So a number that
        Slipway has set goes to another manager first, where it stays until the autoscaler changes it. No autoscaler
        but KEDA's starts the first replica, so an endpoint that no longer sleeps is woken.
        """
        try:
            live = await self._api.get(path)
        except NotFound:
            live = await self._api.apply(path, manifest)
        replicas = int(live["spec"]["replicas"])
        if _sets_replicas(live) or (replicas == 0 and not may_sleep):
            least = max(replicas, int(manifest["spec"]["replicas"]))
            handed = {key: manifest[key] for key in ("apiVersion", "kind")} | {
                "metadata": {"name": manifest["metadata"]["name"]},
                "spec": {"replicas": least},
            }
            await self._api.apply(path, handed, manager=_HANDOVER_MANAGER)
        spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
        return await self._api.apply(path, {**manifest, "spec": spec})

    async def _list_others(self, kind: Kind, selector: str) -> list[Mapping[str, Any]] | None:
        """Objects, those of the cluster's own kinds without their contents; None where the account may not list them.

        What KEDA makes for an object bears that one's labels; it is no object of ours.
        """
        ask = self._api.get if kind is SCALED_OBJECT else self._api.list_metadata
        try:
            answer = await ask(kind.path(self._settings.namespace), labelSelector=selector)
        except NotAllowed:
            return None
        except NotFound:
            return []
        items = answer.get("items") or ()
        return [one for one in items if not one["metadata"].get("ownerReferences")]

    async def _list(self, kind: Kind, **query: str) -> list[Mapping[str, Any]]:
        try:
            answer = await self._api.get(kind.path(self._settings.namespace), **query)
        except NotFound as error:
            raise Unavailable(f"The cluster lacks what endpoints need: {error.message}.") from error
        items = answer.get("items")
        return items if isinstance(items, list) else []

    async def _tell(self, one: Seen, gate: asyncio.Semaphore) -> Observation:
        """Add the last lines of a server that runs and does not serve; without them when they cannot be had."""
        if one.ask_pod is None:
            return one.observation
        query = {"container": CONTAINER, "tailLines": str(LAST_LINES), "limitBytes": str(_LOG_BYTES)}
        path = f"{POD.path(self._settings.namespace, one.ask_pod)}/log"
        try:
            async with (
                gate,
                asyncio.timeout(self._settings.request_seconds),
                aclosing(self._api.stream(path, query)) as log,
            ):
                text = b"".join([piece async for piece in log])
        except (SlipwayError, TimeoutError):
            return one.observation
        return replace(one.observation, last_lines=tuple(text.decode(errors="replace").splitlines()))


def open_target(target_id: UUID, settings: Mapping[str, Any], local: Mapping[str, Any]) -> KubernetesTarget:
    """The factory of the kind. Raises `Invalid` for settings that cannot be used."""
    try:
        found = KubernetesTargetSettings.model_validate(settings.get("cluster", {}))
    except ValidationError as error:
        raise invalid_from_validation(error.errors()) from error
    if found.builds is None and "buildkit" in settings.get("images", {}).get("builders", ()):
        raise Invalid(
            "The builder buildkit runs in this cluster; say where under `builds`, at least `builds: {}`.",
            field="builds",
        )
    return KubernetesTarget(found, str(target_id), bytes.fromhex(local["key"]), SystemClock())


def _possible(endpoint_id: UUID) -> tuple[tuple[Kind, str], ...]:
    """Every object that an endpoint may have."""
    name = object_name(endpoint_id)
    return (
        (SERVICE, name),
        (SECRET, name),
        (SECRET, pull_secret_name(endpoint_id)),
        (NETWORK_POLICY, name),
        (BUDGET, name),
        (DEPLOYMENT, name),
        (AUTOSCALER, name),
        (SCALED_OBJECT, name),
    )


def _sets_replicas(live: Mapping[str, Any]) -> bool:
    """Whether Slipway's manager holds the number of replicas."""
    return any(
        entry.get("manager") == FIELD_MANAGER and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in live["metadata"].get("managedFields", ())
    )
