"""Which URLs a deployment has, and where they lead."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from slipway_schemas.inference.routing import Backend, Route


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """An endpoint of a version as routing sees it."""

    id: UUID
    version_id: UUID
    name: str
    host: str | None
    port: int | None
    serves: bool
    may_sleep: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """A name below a deployment: a version by its own name, or an alias of one, perhaps shared with a canary."""

    name: str
    version_id: UUID
    alias: bool = False
    canary_version_id: UUID | None = None
    canary_percent: int = 0
    sticky: bool = True


def routes_of(
    base: str,
    deployment_id: UUID,
    *,
    public: bool,
    pointers: Sequence[Pointer],
    endpoints: Sequence[ServedEndpoint],
) -> list[Route]:
    """The routes of a deployment whose URL begins with `base` (contract 4.1).

    An endpoint that does not serve has a route without backends, so that callers learn why. A canary takes part only
    where it serves; where the main version of an alias lacks the endpoint there is no route.
    """
    names = {one.version_id: one.name for one in pointers if not one.alias}
    by_key = {(one.version_id, one.name): one for one in endpoints}

    def backend(version_id: UUID | None, endpoint: str, weight: int) -> Backend | None:
        one = by_key.get((version_id, endpoint)) if version_id is not None else None
        if one is None or version_id is None or not one.serves or one.host is None or one.port is None:
            return None
        return Backend(
            host=one.host,
            port=one.port,
            version=names[version_id],
            version_id=version_id,
            weight=weight,
            wakes=one.id if one.may_sleep else None,
        )

    routes = []
    for pointer in pointers:
        for (version_id, endpoint), state in sorted(by_key.items(), key=lambda item: item[0][1]):
            if version_id != pointer.version_id:
                continue
            canary = backend(pointer.canary_version_id, endpoint, pointer.canary_percent)
            percent = pointer.canary_percent if canary is not None else 0
            main = backend(version_id, endpoint, 100 - percent)
            backends = tuple(one for one in (main, canary if percent else None) if one is not None)
            routes.append(
                Route(
                    prefix=f"{base}/{pointer.name}/{endpoint}",
                    deployment_id=deployment_id,
                    endpoint=endpoint,
                    alias=pointer.name if pointer.alias else None,
                    backends=backends,
                    sticky=pointer.sticky,
                    public=public,
                    detail="" if backends else state.detail,
                )
            )
    return routes
