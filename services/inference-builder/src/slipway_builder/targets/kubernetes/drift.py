"""Tells whether others have changed objects since they were applied, from what the cluster lists of them anyway."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from slipway_builder.targets.kubernetes.names import ENDPOINT_ID, FIELD_MANAGER

Field = tuple[str, ...]


@dataclass(slots=True)
class _Known:
    fields: frozenset[Field]
    """What Slipway owned when it had applied the object."""
    unchanged: str
    """The resource version at which it still owned all of that."""


class Owned:
    """Which fields of which objects are Slipway's.

    The cluster takes a field away from its manager when somebody else gives it another value or deletes it. Fields
    that others add are theirs, as are those that another version of Slipway has applied besides: no drift.
    """

    def __init__(self) -> None:
        self._known: dict[UUID, dict[tuple[str, str], _Known]] = {}

    def applied(self, endpoint_id: UUID, objects: Iterable[Mapping[str, Any]]) -> None:
        """Note all objects of an endpoint as the cluster answered when they were applied."""
        self._known[endpoint_id] = {
            (str(one["kind"]), str(one["metadata"]["name"])): _Known(
                frozenset(_owned(one)), str(one["metadata"].get("resourceVersion", ""))
            )
            for one in objects
        }

    def forget(self, endpoint_id: UUID) -> None:
        """The endpoint is removed."""
        self._known.pop(endpoint_id, None)

    def drifted(self, listed: Mapping[str, Iterable[Mapping[str, Any]]]) -> set[UUID]:
        """Endpoints of which something is missing, changed or too many; `listed`: all objects, by kind."""
        found: set[UUID] = set()
        there: set[tuple[UUID, str, str]] = set()
        for kind, objects in listed.items():
            for one in objects:
                metadata = one["metadata"]
                endpoint_id, name = UUID(metadata["labels"][ENDPOINT_ID]), str(metadata["name"])
                known = self._known.get(endpoint_id)
                if known is None:
                    continue
                there.add((endpoint_id, kind, name))
                if (
                    (kind, name) not in known
                    or "deletionTimestamp" in metadata
                    or not _still_owns(known[kind, name], one)
                ):
                    found.add(endpoint_id)
        for endpoint_id, known in self._known.items():
            if any(kind in listed and (endpoint_id, kind, name) not in there for kind, name in known):
                found.add(endpoint_id)
        return found


def _still_owns(known: _Known, live: Mapping[str, Any]) -> bool:
    version = str(live["metadata"].get("resourceVersion", ""))
    if version == known.unchanged:
        return True
    if not known.fields <= set(_owned(live)):
        return False
    known.unchanged = version
    return True


def _owned(live: Mapping[str, Any]) -> Iterator[Field]:
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            yield from _paths(entry.get("fieldsV1", {}), ())


def _paths(fields: Mapping[str, Any], above: Field) -> Iterator[Field]:
    for name, below in fields.items():
        yield (*above, name)
        yield from _paths(below, (*above, name))
