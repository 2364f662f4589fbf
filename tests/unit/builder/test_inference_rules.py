"""Statuses, names and routes follow from what is known."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from slipway_builder.endpoints.domain import Facts, judge
from slipway_builder.routing.domain import Pointer, ServedEndpoint, routes_of
from slipway_builder.versions.domain import next_name
from slipway_schemas.inference.routing import Route
from slipway_schemas.inference.statuses import EndpointStatus, ImageStatus

FIRST, SECOND, DEPLOYMENT = uuid4(), uuid4(), uuid4()
BASE = "/acme/iris/main"


def facts(**changes: object) -> Facts:
    known = {
        "enabled": True,
        "image": ImageStatus.READY,
        "image_detail": "",
        "settled": True,
        "wanted": 2,
        "ready": 2,
        "problem": None,
        "detail": "",
    }
    return Facts(**{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, EndpointStatus.AVAILABLE, "100% - Available"),
        ({"enabled": False}, EndpointStatus.DISABLED, "Disabled"),
        ({"image": ImageStatus.BUILDING}, EndpointStatus.BUILDING_IMAGE, "being built"),
        ({"image": ImageStatus.FAILED, "image_detail": "no pip"}, EndpointStatus.BUILD_FAILED, "no pip"),
        ({"ready": 1}, EndpointStatus.DEPLOYING, "50% - Deploying"),
        ({"settled": False}, EndpointStatus.DEPLOYING, "Deploying"),
        ({"ready": 1, "problem": "crash_loop"}, EndpointStatus.DEGRADED, "50% - The server ends again and again."),
        ({"ready": 0, "problem": "out_of_memory", "detail": "64 MB"}, EndpointStatus.UNAVAILABLE, "64 MB"),
        ({"ready": 0, "wanted": 0}, EndpointStatus.UNAVAILABLE, "set the number of replicas"),
        ({"ready": 0, "wanted": 0, "may_sleep": True}, EndpointStatus.AVAILABLE, "100% - Asleep: the next request"),
        ({"ready": 0, "wanted": 1, "may_sleep": True}, EndpointStatus.AVAILABLE, "100% - Waking up"),
        ({"ready": 1, "wanted": 1, "may_sleep": True}, EndpointStatus.AVAILABLE, "100% - Available"),
        ({"ready": 1, "wanted": 3, "may_sleep": True}, EndpointStatus.DEPLOYING, "33% - Deploying"),
        (
            {"ready": 0, "wanted": 1, "may_sleep": True, "problem": "image_pull"},
            EndpointStatus.UNAVAILABLE,
            "cannot be pulled",
        ),
        (
            {"ready": 0, "wanted": 0, "may_sleep": True, "problem": "not_woken"},
            EndpointStatus.UNAVAILABLE,
            "nothing would wake it",
        ),
        ({"ready": 0, "wanted": 0, "may_sleep": True, "settled": False}, EndpointStatus.DEPLOYING, "0% - Deploying"),
        (
            {"away": "no answer in time."},
            EndpointStatus.AVAILABLE,
            "Available, as last seen. The target does not",
        ),
        ({"settled": False, "away": "it is gone."}, EndpointStatus.DEPLOYING, "afterwards: it is gone."),
    ],
)
def test_a_status_says_what_is_known(changes: dict[str, object], status: EndpointStatus, words: str) -> None:
    judgement = judge(facts(**changes))
    assert judgement.status is status
    assert words in judgement.detail


def test_names_count_from_0_per_day_and_never_come_again() -> None:
    now = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)
    assert next_name(now, []) == "20261121.0"
    assert next_name(now, ["20261121.0", "20261121.9", "20261120.44", "20261121.x", "final"]) == "20261121.10"


def served(version: UUID, *, ready: bool = True, name: str = "greet", asleep: UUID | None = None) -> ServedEndpoint:
    return ServedEndpoint(
        id=asleep or uuid4(),
        version_id=version,
        name=name,
        host="10.0.0.1" if ready else None,
        port=(7001 if version == FIRST else 7002) if ready else None,
        serves=ready,
        may_sleep=asleep is not None,
        detail="0% - Deploying",
    )


def routes(aliases: list[Pointer], endpoints: list[ServedEndpoint]) -> dict[str, Route]:
    """With two versions, `v1` and `v2`."""
    versions = [Pointer("v1", FIRST), Pointer("v2", SECOND)]
    found = routes_of(BASE, DEPLOYMENT, public=False, pointers=[*versions, *aliases], endpoints=endpoints)
    return {one.prefix: one for one in found}


def test_versions_and_aliases_have_routes_of_their_own() -> None:
    found = routes([Pointer("production", SECOND, alias=True)], [served(FIRST), served(SECOND)])
    assert set(found) == {f"{BASE}/v1/greet", f"{BASE}/v2/greet", f"{BASE}/production/greet"}
    assert [one.port for one in found[f"{BASE}/production/greet"].backends] == [7002]
    assert found[f"{BASE}/production/greet"].alias == "production"
    assert found[f"{BASE}/v1/greet"].alias is None


def test_an_endpoint_that_does_not_serve_has_a_route_that_says_why() -> None:
    (route,) = routes([], [served(FIRST, ready=False)]).values()
    assert (route.backends, route.detail) == ((), "0% - Deploying")


def test_a_canary_shares_where_it_serves() -> None:
    pointer = Pointer("production", FIRST, True, SECOND, 20)
    route = routes([pointer], [served(FIRST), served(SECOND)])[f"{BASE}/production/greet"]
    assert [(one.version, one.weight) for one in route.backends] == [("v1", 80), ("v2", 20)]
    route = routes([pointer], [served(FIRST), served(SECOND, ready=False)])[f"{BASE}/production/greet"]
    assert [(one.version, one.weight) for one in route.backends] == [("v1", 100)]


def test_only_a_backend_that_may_sleep_names_whom_its_requests_wake() -> None:
    endpoint = uuid4()
    alias = Pointer("production", FIRST, True, SECOND, 20)
    route = routes([alias], [served(FIRST, asleep=endpoint), served(SECOND)])[f"{BASE}/production/greet"]
    assert [one.wakes for one in route.backends] == [endpoint, None]
