"""The routing table: changes, prefixes on segment boundaries, and what HAProxy's maps make of it."""

from uuid import UUID

import pytest

from slipway_builder.router.engines.haproxy_maps import KEYS, LINE_BYTES, MAPS, ROUTES, commands, map_files
from slipway_builder.router.saved import table_document
from slipway_builder.router.table import RoutingTable
from slipway_schemas.inference.routing import Backend, Route, RouteKey, TableChanges

D1, D2, V1, K1 = (UUID(int=number) for number in range(1, 5))
PATHS = {name: f"/maps/{name}" for name in MAPS}
HASH = "ab" * 32


def _route(prefix: str, port: int = 8000, *, removed: bool = False) -> Route:
    backend = Backend(host="127.0.0.1", port=port, version="v1", version_id=V1)
    return Route(prefix=prefix, deployment_id=D1, endpoint="greet", backends=(backend,), removed=removed)


def _key(*, endpoints: tuple[str, ...] = (), removed: bool = False, deployment: UUID = D1) -> RouteKey:
    return RouteKey(
        key_id=K1, key_hash=HASH, deployment_id=deployment, consumer="c", endpoints=endpoints, removed=removed
    )


def _apply(table: RoutingTable, changes: TableChanges) -> set[str]:
    difference = table.difference(changes)
    table.install(difference)
    return set(difference.routes) | set(difference.keys)


def test_a_partial_change_leaves_the_rest() -> None:
    table = RoutingTable()
    _apply(table, TableChanges(revision=1, complete=True, routes=(_route("/a/b/c/d/e"), _route("/a/b/c/d/f"))))
    assert _apply(table, TableChanges(revision=2, routes=(_route("/a/b/c/d/e", 9000), _route("/a/b/c/d/f")))) == {
        "/a/b/c/d/e"
    }
    assert _apply(table, TableChanges(revision=3, routes=(_route("/a/b/c/d/f", removed=True),))) == {"/a/b/c/d/f"}
    assert list(table.routes) == ["/a/b/c/d/e"]
    assert table.revision == 3
    assert _apply(table, TableChanges(revision=4, routes=(_route("/never/was", removed=True),))) == set()


def test_a_complete_change_forgets_the_rest_and_touches_only_what_differs() -> None:
    table = RoutingTable()
    _apply(table, TableChanges(revision=9, complete=True, routes=(_route("/a/b"), _route("/a/c")), keys=(_key(),)))
    changed = _apply(table, TableChanges(revision=4, complete=True, routes=(_route("/a/b"), _route("/a/d"))))
    assert changed == {"/a/c", "/a/d", HASH}
    assert (set(table.routes), table.keys, table.revision) == ({"/a/b", "/a/d"}, {}, 4)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/b/c", "/a/b/c"),
        ("/a/b/c/d/e/f/g", "/a/b/c"),
        ("/a/b/cc", "/a/b"),
        ("/a/bb", None),
        ("/a", None),
        ("a/b", None),
        ("//a/b", None),
        ("/a//b", None),
        ("", None),
        ("/a/b" + "/x" * 5000, "/a/b"),
    ],
)
def test_the_longest_prefix_that_ends_at_a_slash_wins(path: str, found: str | None) -> None:
    table = RoutingTable()
    _apply(table, TableChanges(revision=1, complete=True, routes=(_route("/a/b"), _route("/a/b/c"))))
    entry = table.resolve(path)
    assert (entry.prefix if entry else None) == found


def test_a_removed_depth_is_not_looked_for() -> None:
    table = RoutingTable()
    _apply(table, TableChanges(revision=1, complete=True, routes=(_route("/a/b"), _route("/a/b/c"))))
    _apply(table, TableChanges(revision=2, routes=(_route("/a/b/c", removed=True), _route("/a/b", removed=True))))
    assert table.resolve("/a/b/c") is None


def _run(state: dict[str, dict[str, str]], lines: list[str]) -> None:
    """What HAProxy does with the commands, refusing what it refuses."""
    for line in lines:
        for command in line.split(";"):
            verb, _, path, key, *value = command.split(" ")
            entries = state[path.removeprefix("/maps/")]
            assert (key in entries) == (verb != "add"), command
            if verb == "del":
                del entries[key]
            else:
                (entries[key],) = value


def test_commands_bring_running_maps_to_the_table() -> None:
    table = RoutingTable()
    running: dict[str, dict[str, str]] = {name: {} for name in MAPS}
    steps = [
        TableChanges(revision=1, complete=True, routes=(_route("/a/b/c/d/e"),), keys=(_key(),)),
        TableChanges(revision=2, routes=(_route("/a/b/c/d/e", 9000),), keys=(_key(endpoints=("greet", "train")),)),
        TableChanges(revision=3, routes=(_route("/a/b/c/d/f"),), keys=(_key(endpoints=("train",)),)),
        TableChanges(revision=4, keys=(_key(deployment=D2),)),
        TableChanges(revision=5, routes=(_route("/a/b/c/d/e", removed=True),), keys=(_key(removed=True),)),
        TableChanges(revision=6, complete=True, routes=tuple(_route(f"/a/b/c/{n}/e") for n in range(300))),
    ]
    for changes in steps:
        difference = table.difference(changes)
        table.install(difference)
        lines = commands(difference, PATHS)
        assert all(len(line) <= LINE_BYTES for line in lines)
        _run(running, lines)
        fresh = {name: dict(line.split(" ", 1) for line in text.splitlines()) for name, text in map_files(table)}
        assert running == fresh, changes.revision
    assert len(running[ROUTES]) == 300
    assert running[KEYS] == {}


def test_an_alias_of_several_endpoints_moves_in_one_line() -> None:
    table = RoutingTable()
    for port in (8000, 9000):
        routes = tuple(_route(f"/ann/digits/model/production/{name}", port) for name in ("greet", "train", "score"))
        difference = table.difference(TableChanges(revision=port, routes=routes))
        table.install(difference)
        lines = commands(difference, PATHS)
        assert len(lines) == 1
    assert lines[0].count("set map") == 3


def test_names_cannot_speak_to_haproxy() -> None:
    table = RoutingTable()
    backend = Backend(host="::1", port=1, version="v 1;del map|\n", version_id=V1)
    evil = Route(prefix="/a/b;disable", deployment_id=D1, endpoint="e", backends=(backend,))
    named = Route(prefix="/a/b", deployment_id=D1, endpoint="e;x y|\n", backends=(backend,), detail="x")
    lines = commands(table.difference(TableChanges(revision=1, routes=(evil, named))), PATHS)
    assert len(lines) == 1
    assert lines[0].count(" ") == 4
    assert not {";", "\n"} & set(lines[0])
    assert lines[0].count("|") == 12


@pytest.mark.parametrize(("wakes", "way"), [(None, "plain"), (K1, "waking")])
def test_routes_whose_backends_may_sleep_go_their_own_way(wakes: UUID | None, way: str) -> None:
    table = RoutingTable()
    backend = Backend(host="127.0.0.1", port=8000, version="v1", version_id=V1, wakes=wakes)
    route = Route(prefix="/a/b", deployment_id=D1, endpoint="greet", backends=(backend,))
    _apply(table, TableChanges(revision=1, complete=True, routes=(route,)))
    fields = dict(map_files(table))[ROUTES].split(" ")[1].rstrip("\n").split("|")
    assert (fields[3], fields[11], fields[12]) == (way, "greet", str(wakes or ""))
    saved = TableChanges.model_validate_json(table_document(table))
    assert saved.routes[0].backends == (backend,)
