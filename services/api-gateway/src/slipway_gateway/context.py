"""What the gateway's process holds, and the factory that builds services out of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from uuid import UUID

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database, Doorbell, HealthBoard, check_schema
from slipway_gateway.code.packages import PackageService
from slipway_gateway.code.service import CodeService
from slipway_gateway.code.snapshots import SnapshotService
from slipway_gateway.data.services import DataServices
from slipway_gateway.data.stores import usable_store
from slipway_gateway.database import MIGRATIONS, SCHEMA
from slipway_gateway.environments.service import EnvironmentService
from slipway_gateway.executions.materials import MaterialsService
from slipway_gateway.executions.service import ExecutionService
from slipway_gateway.executions.tokens import ExecutionTokens
from slipway_gateway.failures.service import FailureService
from slipway_gateway.identity.domain import User
from slipway_gateway.identity.service import AccountService, LoginService, TokenService
from slipway_gateway.identity.usage import TokenUsage
from slipway_gateway.inference.services import InferenceServices
from slipway_gateway.projects.service import ProjectService
from slipway_gateway.secrets.service import SecretService
from slipway_gateway.settings import GatewaySettings
from slipway_gateway.v0.urls import origin_of
from slipway_gateway.variables.service import VariableService
from slipway_kit.auth import AttemptVerifier, ServiceSigner, ServiceVerifier
from slipway_kit.clock import Clock, SystemClock
from slipway_kit.http import Neighbour
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import KeyFileError, load_private, load_trusted, read_pepper
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.vault import Vault
from slipway_storage import ObjectStore, open_store


@dataclass(frozen=True)
class GatewayContext:
    """All that outlives a request."""

    settings: GatewaySettings
    db: Database
    redis: Redis
    doorbell: Doorbell
    clock: Clock
    metrics: ServiceMetrics
    object_store: ObjectStore
    scheduler: Neighbour
    logs: Neighbour
    builder: Neighbour
    callers: ServiceVerifier
    attempts: AttemptVerifier
    vault: Vault
    token_pepper: str
    token_usage: TokenUsage
    login: LoginService
    data: DataServices
    executions: ExecutionService
    failures: FailureService
    inference: InferenceServices
    materials: MaterialsService
    execution_tokens: ExecutionTokens
    snapshots: SnapshotService
    packages: PackageService
    health: HealthBoard
    neighbours: tuple[Neighbour, ...]
    """Those whose health the gateway shows, by the name of their audience."""

    async def database_answers(self) -> None:
        """Raise when Postgres does not answer."""
        async with self.db.read() as session:
            await session.execute(text("SELECT 1"))

    @property
    def public_origin(self) -> str:
        """`scheme://host:port` as clients and browsers see it."""
        return origin_of(self.settings.public_url)


class Factory:
    """Builds the services of one unit of work."""

    def __init__(self, context: GatewayContext, session: AsyncSession) -> None:
        self.context = context
        self.session = session

    @cached_property
    def tokens(self) -> TokenService:
        """API tokens and sessions."""
        return TokenService(self.session, self.context.token_pepper)

    @cached_property
    def accounts(self) -> AccountService:
        """Users and organizations."""
        return AccountService(self.session)

    @cached_property
    def secrets(self) -> SecretService:
        """Values encrypted at rest."""
        return SecretService(self.session, self.context.vault)

    @cached_property
    def projects(self) -> ProjectService:
        """Projects and their variables."""
        return ProjectService(self.session, self.accounts, self.secrets)

    @cached_property
    def variables(self) -> VariableService:
        """Variables of owners, and groups of them."""
        return VariableService(self.session, self.accounts, self.secrets)

    @cached_property
    def code(self) -> CodeService:
        """Repositories and commits, as far as rows tell; `context.snapshots` goes to git and to the store."""
        return CodeService(self.session, self.secrets)

    @cached_property
    def environments(self) -> EnvironmentService:
        """Environments that the caller may use."""
        return EnvironmentService(self.session)

    async def usable_store(self, user: User, store_id: UUID) -> UUID | None:
        """The store of this id as rows name it: None is the installation's own. Raises `NotFound`."""
        return await usable_store(self.session, user, store_id)


@asynccontextmanager
async def open_context(settings: GatewaySettings) -> AsyncIterator[GatewayContext]:
    """Open everything that the gateway holds, and close it in reverse.

    Raises `SchemaMismatch` when the database is not at this build's revision, `KeyFileError` for key files.
    """
    async with AsyncExitStack() as stack:
        db = Database(settings.database.url.get_secret_value(), schema=SCHEMA, pool_size=settings.database.pool_size)
        stack.push_async_callback(db.close)
        await check_schema(db, MIGRATIONS)
        if settings.upload_dir is not None:
            settings.upload_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        redis = Redis.from_url(settings.redis.url.get_secret_value())
        stack.push_async_callback(redis.aclose)
        clock = SystemClock()
        signer = ServiceSigner("gateway", load_private(settings.keys.private_key_file), clock)
        neighbours = settings.neighbours
        scheduler = await stack.enter_async_context(Neighbour(neighbours.scheduler or "", signer, "scheduler"))
        logs = await stack.enter_async_context(Neighbour(neighbours.logs or "", signer, "logs"))
        builder = await stack.enter_async_context(Neighbour(neighbours.builder or "", signer, "builder"))
        trusted = load_trusted(settings.keys.trusted_keys_dir)
        if "scheduler" not in trusted:
            raise KeyFileError(
                f"{settings.keys.trusted_keys_dir} has no scheduler.pub.pem: attempt tokens cannot be checked."
            )
        object_store = open_store(settings.store, clock=clock)
        stack.push_async_callback(object_store.close)
        vault = Vault(KeyRing(settings.secret_key_file, settings.older_secret_keys_dir))
        pepper = read_pepper(settings.token_pepper_file)
        snapshots = SnapshotService(db, settings=settings, store=object_store, vault=vault, clock=clock)
        stack.push_async_callback(snapshots.close)
        usage = TokenUsage(db)
        data = DataServices.build(db, vault, object_store)
        stack.push_async_callback(data.stores.close)
        execution_tokens = ExecutionTokens(load_private(settings.keys.private_key_file))
        worker_origin = origin_of(settings.worker_url or settings.public_url)
        stack.push_async_callback(usage.flush)
        yield GatewayContext(
            settings=settings,
            db=db,
            redis=redis,
            doorbell=Doorbell(db),
            clock=clock,
            metrics=ServiceMetrics(CollectorRegistry(), "gateway"),
            object_store=object_store,
            scheduler=scheduler,
            logs=logs,
            builder=builder,
            callers=ServiceVerifier(SCHEMA, trusted, clock),
            attempts=AttemptVerifier(trusted["scheduler"]),
            vault=vault,
            token_pepper=pepper,
            token_usage=usage,
            login=LoginService(db, pepper, clock),
            data=data,
            executions=ExecutionService(db, scheduler, vault, snapshots),
            failures=FailureService(db),
            inference=InferenceServices.build(
                db, builder, logs, settings=settings, vault=vault, snapshots=snapshots, data=data, clock=clock
            ),
            materials=MaterialsService(db, vault, data.stores, data.datums, execution_tokens, worker_origin),
            execution_tokens=execution_tokens,
            snapshots=snapshots,
            packages=PackageService(db, object_store, snapshots.yaml, clock),
            health=HealthBoard("gateway", version("slipway-api-gateway"), db, clock),
            neighbours=(scheduler, logs, builder) if neighbours.builder else (scheduler, logs),
        )
