"""Routes and keys as tests write them."""

import hashlib
from dataclasses import dataclass, field
from uuid import UUID

from slipway_kit.ids import new_id
from slipway_schemas.inference.routing import Backend, Route, RouteKey
from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.pods import Pod
from slipway_testing.router_process import RouterProcess


@dataclass
class Site:
    """A deployment of a test: a name of its own, so that tests share a router and do not meet."""

    builder: RoutingNeighbour
    router: RouterProcess
    one: Pod
    two: Pod
    builder_app: ServedApp
    deployment_id: UUID = field(default_factory=new_id)
    v1: UUID = field(default_factory=new_id)
    v2: UUID = field(default_factory=new_id)

    def path(self, name: str, endpoint: str = "greet") -> str:
        """`/<owner>/<project>/<deployment>/<version or alias>/<endpoint>`."""
        return f"/ann/digits/{self.deployment_id.hex}/{name}/{endpoint}"

    def first(self, weight: int = 100) -> Backend:
        """Version v1, served by the first pod."""
        return Backend(host="127.0.0.1", port=self.one.port, version="v1", version_id=self.v1, weight=weight)

    def second(self, weight: int = 100) -> Backend:
        """Version v2, served by the second pod."""
        return Backend(host="127.0.0.1", port=self.two.port, version="v2", version_id=self.v2, weight=weight)

    def route(
        self,
        name: str,
        *backends: Backend,
        endpoint: str = "greet",
        public: bool = True,
        sticky: bool = True,
        detail: str = "",
        removed: bool = False,
    ) -> Route:
        """A route of this deployment."""
        return Route(
            prefix=self.path(name, endpoint),
            deployment_id=self.deployment_id,
            endpoint=endpoint,
            backends=backends,
            public=public,
            sticky=sticky,
            detail=detail,
            removed=removed,
        )

    def key(
        self,
        text: str,
        *,
        endpoints: tuple[str, ...] = (),
        expires_at: int | None = None,
        per_minute: int | None = None,
        key_id: UUID | None = None,
        removed: bool = False,
    ) -> RouteKey:
        """A key of this deployment."""
        return RouteKey(
            key_id=key_id or new_id(),
            key_hash=hashlib.sha256(text.encode()).hexdigest(),
            deployment_id=self.deployment_id,
            consumer="tests",
            endpoints=endpoints,
            expires_at=expires_at,
            requests_per_minute=per_minute,
            removed=removed,
        )

    async def put(self, *entries: Route | RouteKey) -> None:
        """Change the table and wait until the router has confirmed it."""
        await self.builder.confirmed(self.router.router_id, self.builder.put(*entries))
