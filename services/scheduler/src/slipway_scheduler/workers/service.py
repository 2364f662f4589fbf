"""Use cases of workers: join an environment, be drained, be judged when they are not heard of."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import notify
from slipway_kit.auth import new_secret_token, token_hash
from slipway_kit.errors import NotFound, Unauthorized
from slipway_scheduler.channels import WORKERS
from slipway_scheduler.environments.store import EnvironmentStore
from slipway_scheduler.executions.domain import Execution, GivenUp, Input, may_run_again
from slipway_scheduler.executions.service import ExecutionService
from slipway_scheduler.executions.store import ExecutionStore
from slipway_scheduler.settings import LeaseSettings
from slipway_scheduler.workers.store import WorkerStore
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.workers import WorkerRegister, WorkerRegistered

JUDGE_BATCH = 200


class WorkerService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession, pepper: str, leases: LeaseSettings) -> None:
        self._session = session
        self._store = WorkerStore(session)
        self._pepper = pepper
        self._leases = leases

    async def register(self, group_token: str, machine: WorkerRegister) -> WorkerRegistered:
        """Let a machine join the environment of its group token. Raises `Unauthorized`."""
        environment = await EnvironmentStore(self._session).of_token(token_hash(group_token, self._pepper))
        if environment is None:
            raise Unauthorized("The group token is not known or was revoked. Make a new one for the environment.")
        token = new_secret_token()
        worker_id = await self._store.register(environment.id, machine, token_hash(token, self._pepper))
        return WorkerRegistered(
            worker_id=worker_id,
            worker_token=token,
            environment_id=environment.id,
            environment_slug=environment.slug,
            renew_seconds=self._leases.renew_seconds,
            lease_seconds=self._leases.lease_seconds,
        )

    async def drain(self, worker_id: UUID) -> None:
        """Ask a worker to finish what it has and take no more. Raises `NotFound`."""
        if not await self._store.drain(worker_id):
            raise NotFound(f"There is no worker {worker_id}.")
        await notify(self._session, WORKERS)

    async def judge(self, *, after_outage: bool) -> int:
        """Find attempts whose lease is over: replace, note as unreachable, or give up (design rule 8).

        Time in which nobody judged (the scheduler or Postgres was down) counts for no lease, and after it
        nothing is judged for the grace time. `after_outage`: the caller knows that there was such a time, however
        short; a long one shows in the beats. Returns how many attempts were replaced or given up.
        """
        gap = await self._store.beat()
        if gap is None or after_outage or gap > self._leases.outage_seconds:
            await self._store.forgive(gap or 0.0, self._leases.grace_seconds)
            return 0
        rows = await self._store.expired(JUDGE_BATCH)
        if not rows:
            return 0
        found = await ExecutionStore(self._session).lock([row["execution_id"] for row in rows], skip_locked=True)
        ends: list[tuple[Execution, Input]] = []
        silent: dict[str, list[tuple[UUID, UUID]]] = {}
        for row in rows:
            execution = found.get(row["execution_id"])
            if execution is None or execution.attempt is None or execution.attempt.id != row["attempt_id"]:
                continue
            since = f"since {row['since']} UTC"
            if may_run_again(execution) or row["lost"]:
                message = f"Worker {row['hostname']} was not heard of {since}."
                ends.append((execution, GivenUp(row["attempt_id"], EndReason.WORKER_LOST, message, retryable=True)))
            elif row["fresh"]:
                detail = f"unreachable {since} (worker {row['hostname']})"
                silent.setdefault(detail, []).append((row["attempt_id"], execution.id))
        await self._store.hide({row["worker_id"] for row in rows})
        for detail, pairs in silent.items():
            await self._store.set_detail([execution_id for _, execution_id in pairs], detail)
            await self._store.mark_unreachable([attempt_id for attempt_id, _ in pairs])
        return len(await ExecutionService(self._session).apply(ends))
