"""An inference-builder that answers routers from a table in memory."""

import asyncio
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from slipway_kit.ids import new_id
from slipway_schemas.inference.routing import Route, RouteCount, RouteKey, RouterSync, TableChanges

SYNC_PATH = "/internal/v1/routers/sync"


class RoutingNeighbour:
    """`POST /internal/v1/routers/sync` with the semantics of revisions; routers wait in it as in the real one."""

    def __init__(self, token: str = "router-token") -> None:
        self.token = token
        self.target_id: UUID = new_id()
        self.revision = 0
        self.routes: dict[str, tuple[int, Route]] = {}
        self.keys: dict[UUID, tuple[int, RouteKey]] = {}
        self.applied: dict[str, int] = {}
        self.key_uses: dict[UUID, int] = {}
        self.counts: list[RouteCount] = []
        self.syncs: list[RouterSync] = []
        self._changed = asyncio.Event()
        self._confirmed = asyncio.Event()
        self.app = Starlette(routes=[Path(SYNC_PATH, self._sync, methods=["POST"])])

    def put(self, *entries: Route | RouteKey) -> int:
        """Add or change entries in one revision; `removed` ones go."""
        self.revision += 1
        for entry in entries:
            if isinstance(entry, Route):
                self.routes[entry.prefix] = (self.revision, entry)
            else:
                self.keys[entry.key_id] = (self.revision, entry)
        self._wake()
        return self.revision

    def restore(self, revision: int, *entries: Route | RouteKey) -> None:
        """Hold this table and revision, as after a backup was restored."""
        self.routes, self.keys = {}, {}
        self.revision = revision - 1
        self.put(*entries)

    async def confirmed(self, router_id: str, revision: int, timeout: float = 10) -> None:
        """Wait until a router has said that it is at `revision`."""
        async with asyncio.timeout(timeout):
            while self.applied.get(router_id, -1) < revision:
                self._confirmed.clear()
                await self._confirmed.wait()

    def requests(self, version_id: UUID) -> int:
        """Requests of a version that routers have reported."""
        return sum(one.requests for one in self.counts if one.version_id == version_id)

    async def _sync(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"status": 401, "code": "unauthorized", "detail": "This token is not known."}, 401)
        sync = RouterSync.model_validate_json(await request.body())
        self.syncs.append(sync)
        self.counts += sync.counts
        self.key_uses |= {use.key_id: use.at for use in sync.key_uses}
        self.applied[sync.router_id] = sync.applied_revision
        self._confirmed.set()
        if sync.applied_revision == self.revision:
            await self._until_changed(sync.wait_seconds)
        return Response(self._changes(sync.applied_revision).model_dump_json(), media_type="application/json")

    async def _until_changed(self, seconds: float) -> None:
        changed = self._changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except (TimeoutError, asyncio.CancelledError):
            return  # also when the server is stopped, which is no failure of the app

    def _changes(self, known: int) -> TableChanges:
        complete = known == 0 or known > self.revision
        after = 0 if complete else known
        return TableChanges(
            revision=self.revision,
            complete=complete,
            routes=tuple(one for at, one in self.routes.values() if at > after and not (complete and one.removed)),
            keys=tuple(one for at, one in self.keys.values() if at > after and not (complete and one.removed)),
        )

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
