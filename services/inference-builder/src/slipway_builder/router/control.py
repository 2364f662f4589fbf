"""The control loop: hears of changes from the builder, brings the engine to them, says so."""

import asyncio
import ctypes
import random
from pathlib import Path

from slipway_builder.router.builder_client import BuilderAway, BuilderClient
from slipway_builder.router.counting import RequestCounts
from slipway_builder.router.engines.protocol import Engine, EngineError
from slipway_builder.router.saved import load_table, save_table, table_document
from slipway_builder.router.settings import RouterSettings
from slipway_builder.router.table import RoutingTable
from slipway_kit.logging import get_logger
from slipway_schemas.inference.routing import RouterSync, TableChanges

_LOG = get_logger()
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_SAVE_SECONDS = 2.0
_UNKEPT_SECONDS = 1.0
"""Between whole tables from a builder that keeps no connection."""
_MANY = 500
"""Entries of a change from which on it is computed in a thread."""


class Control:
    """One router's life: first table, then change after change; the engine serves on whatever the builder does."""

    def __init__(
        self,
        settings: RouterSettings,
        table: RoutingTable,
        engine: Engine,
        counts: RequestCounts,
        client: BuilderClient,
    ) -> None:
        self._settings = settings
        self._table = table
        self._engine = engine
        self._counts = counts
        self._client = client
        self._started = False
        self._applied = 0
        self._complete_wanted = True
        self._unsaved = asyncio.Event()
        self._began_at = asyncio.get_running_loop().time()
        self._heard_at: float | None = None
        self._problem = ""
        self._applying = False

    @property
    def revision(self) -> int:
        """The revision that requests are served by."""
        return self._applied

    def seconds_since_heard(self) -> float | None:
        """How long ago the builder last answered; None = not since the start."""
        return None if self._heard_at is None else asyncio.get_running_loop().time() - self._heard_at

    def not_ready(self) -> str | None:
        """Why no request should be sent here; None = ready."""
        if not self._started:
            return f"there is no routing table yet. {self._problem}".strip()
        if self._applying:
            return f"a change of the routing table is not in force yet. {self._problem}".strip()
        return None

    async def run(self) -> None:
        """Synchronize until cancelled."""
        saver = asyncio.create_task(self._save_changes())
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    await self._sync()
                    pause = _FIRST_PAUSE
                except (BuilderAway, EngineError) as error:
                    if str(error) != self._problem:
                        _LOG.warning("router_not_synchronized", reason=str(error))
                    self._problem = str(error)
                    self._complete_wanted = True
                    await self._begin_with_saved()
                    await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            saver.cancel()

    async def _sync(self) -> None:
        report = self._counts.report()
        whole = self._complete_wanted or not self._client.connected
        known = 0 if whole else self._applied
        try:
            changes = await self._client.sync(
                RouterSync(
                    router_id=self._settings.router_id,
                    target_id=self._settings.target_id,
                    applied_revision=known,
                    wait_seconds=0 if whole else self._settings.report_seconds,
                    counts=report.counts,
                    key_uses=report.key_uses,
                )
            )
        except BuilderAway:
            self._counts.put_back(report)
            raise
        self._heard_at = asyncio.get_running_loop().time()
        if changes.revision == 0:
            changes = changes.model_copy(update={"complete": True})
        if not changes.complete and (known == 0 or changes.revision < known):
            raise BuilderAway("The builder gave a part of the table where all of it was needed.")
        await self._apply(changes)
        self._complete_wanted = False
        self._problem = ""
        if whole and not self._client.connected:
            await asyncio.sleep(_UNKEPT_SECONDS)

    async def _apply(self, changes: TableChanges) -> None:
        many = len(changes.routes) + len(changes.keys) > _MANY
        difference = (
            await asyncio.to_thread(self._table.difference, changes) if many else self._table.difference(changes)
        )
        self._applying = True
        self._table.install(difference)
        if not self._started:
            await self._engine.start()
            self._started = True
            _LOG.info("router_serves", engine=self._engine.name, revision=changes.revision)
        elif not difference.empty or self._problem:
            await self._engine.apply(difference)
        self._applied = changes.revision
        self._applying = False
        if not difference.empty:
            self._unsaved.set()
            self._counts.forget(self._serves)

    def _serves(self, prefix: str, version_id: str) -> bool:
        entry = self._table.routes.get(prefix)
        return entry is not None and any(one.version_id == version_id for one in entry.backends)

    async def _begin_with_saved(self) -> None:
        """Serve by the table of the last life when the builder has not answered for the time that settings say."""
        waited = asyncio.get_running_loop().time() - self._began_at
        if self._started or waited < self._settings.patience_seconds:
            return
        saved = load_table(self._settings.state_dir)
        if saved is not None:
            _LOG.warning("router_begins_with_saved_table", revision=saved.revision)
            try:
                await self._apply(saved)
            except EngineError as error:
                self._problem = str(error)

    async def _save_changes(self) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            try:
                await asyncio.to_thread(_save, self._table, self._settings.state_dir)
            except OSError as error:
                _LOG.error("routing_table_not_saved", error=str(error))
            await asyncio.sleep(_SAVE_SECONDS)


def _save(table: RoutingTable, state_dir: Path) -> None:
    save_table(state_dir, table_document(table))
    # A large table leaves several times its size behind in the allocator.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
