"""Drives targets: what is wanted is applied, what is there is written down, what nobody wants is removed."""

import asyncio
from collections.abc import Mapping
from functools import partial
from uuid import UUID

from slipway_builder.channels import ENDPOINTS
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.endpoints.store import EndpointStore, WantedEndpoint
from slipway_builder.leasing import LeaseLost, held
from slipway_builder.materials import MaterialsClient
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.protocol import EndpointRevision, Observation, Target
from slipway_builder.targets.store import LeasedTarget, TargetStore
from slipway_db import Database
from slipway_kit.errors import Conflict, Forbidden, Invalid, NotFound, SlipwayError
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait

_log = get_logger()

_AT_ONCE = 8
_LOOK_WHEN_CALM = 2.0
_LOOK_WHEN_UNSETTLED = 0.25
_LOOK_WHEN_AWAY = 5.0
_REFUSED_SECONDS = 30.0
_SAY_AGAIN_SECONDS = 3.0
_DRIFT_SECONDS = 300.0
"""What a target does not tell of is said again this often."""
_CYCLE_SECONDS = 60.0


class TargetLoop:
    """One pass over the targets that are due. Whoever holds a target's lease is the only one to touch it."""

    name = "targets"
    due = None
    channel = ENDPOINTS
    interval = 0.25

    def __init__(self, db: Database, pool: TargetPool, materials: MaterialsClient, lease_seconds: float) -> None:
        self._db = db
        self._pool = pool
        self._materials = materials
        self._lease_seconds = lease_seconds
        self._said_at: dict[UUID, float] = {}

    async def run(self) -> int:
        """Look at what is due, until nothing is; a target that is slow to answer holds up no other."""
        cycles: set[asyncio.Task[None]] = set()
        try:
            while True:
                since = asyncio.get_running_loop().time()
                async with self._db.transaction() as session:
                    due = await TargetStore(session).lease_due(_AT_ONCE - len(cycles), self._lease_seconds)
                cycles |= {asyncio.create_task(self._cycle(one, since)) for one in due}
                if not cycles:
                    return 0
                done, cycles = await asyncio.wait(cycles, timeout=self.interval, return_when=asyncio.FIRST_COMPLETED)
                for cycle in done:
                    cycle.result()
        finally:
            for cycle in cycles:
                await cancel_and_wait(cycle)

    async def _cycle(self, leased: LeasedTarget, since: float) -> None:
        look_in, problem = 0.0, ""
        try:
            async with held(partial(self._renew, leased), self._lease_seconds, since), asyncio.timeout(_CYCLE_SECONDS):
                look_in = _LOOK_WHEN_UNSETTLED if await self._drive(leased) else _LOOK_WHEN_CALM
        except LeaseLost:
            _log.warning("target_lease_lost", target=leased.target.name)
        except (SlipwayError, TimeoutError) as error:
            look_in = _LOOK_WHEN_AWAY
            problem = error.message if isinstance(error, SlipwayError) else "The target did not answer in time."
            _log.warning("target_does_not_answer", target=leased.target.name, error=problem)
        finally:
            await self._give_back(leased, look_in, problem)

    async def _give_back(self, leased: LeasedTarget, look_in: float, problem: str) -> None:
        async with self._db.transaction() as session:
            news = await TargetStore(session).give_back(leased, look_in=look_in, problem=problem)
            affected = await EndpointStore(session).deployments_on(leased.target.id) if news else []
        for deployment_id in affected:
            async with self._db.transaction() as session:
                await EndpointService(session).refresh(deployment_id)

    async def _renew(self, leased: LeasedTarget) -> bool:
        async with self._db.transaction() as session:
            return await TargetStore(session).renew(leased, self._lease_seconds)

    async def _drive(self, leased: LeasedTarget) -> bool:
        """Apply and observe; tells whether something is still on its way."""
        target = self._pool.open(leased.target)
        async with self._db.read() as session:
            store = EndpointStore(session)
            wanted = {one.id: one for one in await store.wanted(leased.target.id)}
            unsettled = await store.unsettled(leased.target.id)
        seen = await target.observe()
        await self._correct(leased, target, wanted, unsettled, seen)
        if unsettled or wanted.keys() != seen.keys():
            seen = await target.observe()
        return await self._write(leased, wanted, seen)

    async def _correct(
        self,
        leased: LeasedTarget,
        target: Target,
        wanted: Mapping[UUID, WantedEndpoint],
        unsettled: Mapping[UUID, object],
        seen: Mapping[UUID, Observation],
    ) -> None:
        for endpoint_id, one in wanted.items():
            there = seen.get(endpoint_id)
            if one.serving and (endpoint_id in unsettled or self._may_have_drifted(one, there)):
                await self._apply(target, leased, one)
            elif not one.serving:
                await target.remove(endpoint_id)
                self._said_at.pop(endpoint_id, None)
                await self._applied(leased, one)
        for endpoint_id in seen.keys() - {one.id for one in wanted.values() if one.serving}:
            if endpoint_id not in wanted:
                _log.warning("stray_endpoint_removed", target=leased.target.name, endpoint_id=str(endpoint_id))
                await target.remove(endpoint_id)

    def _may_have_drifted(self, one: WantedEndpoint, there: Observation | None) -> bool:
        """Whether to say again what is wanted: soon when that is not what is seen, now and then in any case."""
        since = asyncio.get_running_loop().time() - self._said_at.get(one.id, float("-inf"))
        as_wanted = there is not None and there.generation == one.generation and not there.drifted
        return since > (_DRIFT_SECONDS if as_wanted else _SAY_AGAIN_SECONDS)

    async def _apply(self, target: Target, leased: LeasedTarget, one: WantedEndpoint) -> None:
        self._said_at[one.id] = asyncio.get_running_loop().time()
        try:
            revision = await self._revision(one)
        except SlipwayError as error:
            _log.warning("variables_not_to_be_had", endpoint_id=str(one.id), error=error.message)
            return
        try:
            await target.apply(revision)
        except (Invalid, Forbidden, Conflict, NotFound) as error:
            async with self._db.transaction() as session:
                deployment_id = await EndpointStore(session).refused(
                    leased.token, one.id, one.generation, error.message, _REFUSED_SECONDS
                )
            if deployment_id is not None:
                async with self._db.transaction() as session:
                    await EndpointService(session).refresh(deployment_id)
            _log.warning("endpoint_refused", target=leased.target.name, endpoint_id=str(one.id), error=error.message)
            return
        await self._applied(leased, one)

    async def _applied(self, leased: LeasedTarget, one: WantedEndpoint) -> None:
        async with self._db.transaction() as session:
            await EndpointStore(session).applied(leased.token, one.id, one.generation)

    async def _revision(self, one: WantedEndpoint) -> EndpointRevision:
        owner, project = one.path.strip("/").split("/")
        variables = one.environment_variables
        values = await self._materials.environment(one.project_id, variables)
        secret = {name for name, variable in variables.items() if variable.get("secret") is not None}
        return EndpointRevision(
            endpoint_id=one.id,
            generation=one.generation,
            version_id=one.version_id,
            deployment_id=one.deployment_id,
            project_id=one.project_id,
            owner=owner,
            project=project,
            deployment=one.deployment,
            version=one.version,
            image=one.reference,
            command=one.command,
            spec=one.spec,
            scale=one.scale,
            environment={name: value for name, value in values.items() if name not in secret},
            secret_environment={name: value for name, value in values.items() if name in secret},
            proven=one.proven,
        )

    async def _write(
        self, leased: LeasedTarget, wanted: Mapping[UUID, WantedEndpoint], seen: Mapping[UUID, Observation]
    ) -> bool:
        ours = [one for one in seen.values() if one.endpoint_id in wanted and wanted[one.endpoint_id].serving]
        async with self._db.read() as session:
            news = await EndpointStore(session).news(ours)
        for deployment_id, some in sorted(news.items()):
            async with self._db.transaction() as session:
                await DeploymentStore(session).lock(deployment_id)
                if await EndpointStore(session).observed(leased.token, some):
                    await EndpointService(session).refresh(deployment_id)
        return any(one.ready < one.wanted for one in ours) or len(ours) < sum(one.serving for one in wanted.values())
