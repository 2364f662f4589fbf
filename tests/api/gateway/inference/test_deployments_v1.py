"""Aliases, keys, targets, logs, traffic in the native API."""

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest


@pytest.fixture
async def two(lab):
    """Two versions; the first one serves."""
    first, second = await lab.version(name="v1"), await lab.version(name="v2")
    await lab.builder.available(UUID(first["id"]))
    return first, second


async def test_an_alias_moves_when_ready_rolls_back_and_keeps_its_history(lab, other, two):
    first, second = two
    root = f"/api/v1/deployments/{lab.deployment['id']}"
    moved = await lab.me.put(f"{root}/aliases/production", json={"version": "v1", "reason": "first"})
    assert (moved.status_code, moved.json()["version_id"]) == (200, first["id"])
    early = await lab.me.put(f"{root}/aliases/production", json={"version": "v2"})
    assert (early.status_code, early.json()["code"]) == (409, "not_ready")
    assert "greet is BUILDING_IMAGE" in early.json()["detail"]
    await lab.builder.available(UUID(second["id"]))
    canary = {"version": "v2", "canary_version": first["id"], "canary_percent": 10, "max_error_percent": 5}
    assert (await lab.me.put(f"{root}/aliases/production", json=canary)).json()["previous_version_id"] == first["id"]
    assert (lab.builder.moves[-1].canary_percent, lab.builder.moves[-1].max_error_percent) == (10, 5)
    [alias] = (await lab.me.get(f"{root}/aliases")).json()["items"]
    assert (alias["version"], alias["canary_version"], alias["canary_percent"]) == ("v2", "v1", 10)
    assert alias["urls"] == {"greet": "http://127.0.0.1:9/me/lab/main/production/greet"}
    detail = (await lab.me.get(lab.deployment["url"])).json()
    assert detail["version_aliases"][0]["version_name"] == "v2"
    assert (await other.post(f"{root}/aliases/production/rollback")).status_code == 404
    back = await lab.me.post(f"{root}/aliases/production/rollback")
    assert back.json()["version_id"] == first["id"]
    history = (await lab.me.get(f"{root}/alias-moves", params={"alias": "production"})).json()["items"]
    assert [one["version"] for one in history] == ["v1", "v2", "v1"]
    assert {one["actor"] for one in history} == {"me"}
    assert [one["reason"] for one in history] == ["rollback", "", "first"]
    assert (await lab.me.delete(f"/api/v0/deployment-versions/{first['id']}/")).status_code == 409
    assert (await lab.me.delete(f"{root}/aliases/production")).status_code == 204
    assert (await lab.me.delete(f"{root}/aliases/production")).status_code == 404


async def test_a_canary_is_told_from_the_version_beside_it(lab, two, execute):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for number, version in enumerate(two, 1):
        await execute(
            "INSERT INTO builder_pub.endpoint_minute_v1 VALUES ($1, $2, $3, $4, 0, 0, $5, 7, $6)",
            *(UUID(version["endpoints"][0]["id"]), "/me/lab/main/production/greet", now, 10 * number, 50.0 * number),
            [0, 10 * number],
        )
    found = (await lab.me.get(f"/api/v1/deployments/{lab.deployment['id']}/metrics")).json()
    routes = [(one["via"], one["version"], one["requests"]) for one in found["routes"]]
    assert routes == [("production", "v1", 10), ("production", "v2", 20)]
    assert [(one["version"], one["requests"]) for one in found["versions"]] == [("v1", 10), ("v2", 20)]
    assert [(one["alias"], one["requests"]) for one in found["aliases"]] == [("production", 30)]


async def test_a_project_counts_its_enabled_endpoints(lab, two):
    url = f"/api/v0/projects/{lab.project['id']}/"
    assert (await lab.me.get(url)).json()["enabled_endpoint_count"] == 2
    endpoint = f"/api/v0/deployment-endpoints/{two[0]['endpoints'][0]['id']}/"
    assert (await lab.me.patch(endpoint, json={"enabled": False})).status_code == 200
    assert (await lab.me.get(url)).json()["enabled_endpoint_count"] == 1
    assert (await lab.me.delete(two[1]["url"])).status_code == 204
    assert (await lab.me.get(url)).json()["enabled_endpoint_count"] == 0


async def test_an_alias_cannot_go_where_nothing_is(lab, two):
    root = f"/api/v1/deployments/{lab.deployment['id']}/aliases"
    for name, body, field in (
        ("a", {"version": "v9"}, "version"),
        ("a", {"version": "v1", "canary_version": "v9"}, "canary_version"),
        ("A", {"version": "v1"}, "name"),
        ("a", {"version": "v1", "cannary_percent": 5}, "cannary_percent"),
        ("a", {"version": "v1", "max_error_percent": 0}, "max_error_percent"),
    ):
        answer = await lab.me.put(f"{root}/{name}", json=body)
        assert (answer.status_code, field in answer.json()["fields"]) == (400, True), (body, answer.text)
    assert not lab.builder.moves


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(lab, other, two, execute):
    root = f"/api/v1/deployments/{lab.deployment['id']}/keys"
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"consumer": "shop", "endpoints": ["greet"], "expires_at": ends, "requests_per_minute": 60}
    made = (await lab.me.post(root, json=body)).json()
    assert len(made["key"]) >= 43
    draft = lab.builder.keys[-1]
    assert draft.key_hash == hashlib.sha256(made["key"].encode()).hexdigest()
    listed = await lab.me.get(root)
    assert made["key"] not in listed.text
    [key] = listed.json()["items"]
    assert (key["consumer"], key["endpoints"], key["creator"], key["revoked_at"]) == ("shop", ["greet"], "me", None)
    assert (await other.delete(f"{root}/{made['id']}")).status_code == 404
    assert (await lab.me.delete(f"{root}/{made['id']}")).status_code == 204
    assert (await lab.me.get(root)).json()["items"][0]["revoked_at"] is not None
    for wrong, field in (
        ({"consumer": " "}, "consumer"),
        ({"consumer": "a", "endpoints": ["gone"]}, "endpoints"),
        ({"consumer": "a", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"consumer": "a", "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"consumer": "a", "requests_per_minute": 0}, "requests_per_minute"),
    ):
        answer = await lab.me.post(root, json=wrong)
        assert (answer.status_code, field in answer.json()["fields"]) == (400, True), answer.text


async def test_public_is_a_switch_and_says_who(lab):
    url = f"/api/v1/deployments/{lab.deployment['id']}"
    opened = await lab.me.patch(url, json={"public": True})
    assert opened.json()["public"] is True
    me = (await lab.me.get("/api/v0/users/me/")).json()["id"]
    assert lab.builder.calls[-1] == (f"PATCH /internal/v1/deployments/{lab.deployment['id']}", me)


async def test_targets_are_for_all_to_see_and_for_administrators_to_change(lab, execute):
    [target] = (await lab.me.get("/api/v1/deployment-targets")).json()["items"]
    assert (target["name"], target["is_default"]) == ("local", True)
    new = {"name": "north", "kind": "kubernetes", "public_url": "https://north.test", "settings": {"namespace": "a"}}
    check = f"/api/v1/deployment-targets/{target['id']}/check"
    assert (await lab.me.post("/api/v1/deployment-targets", json=new)).status_code == 404
    assert (await lab.me.post(check)).status_code == 404
    clean_up = f"/api/v1/deployment-targets/{target['id']}/clean-up"
    assert (await lab.me.post(clean_up)).status_code == 404
    await execute("UPDATE gateway.users SET is_admin = true")
    made = await lab.me.post("/api/v1/deployment-targets", json=new)
    assert (made.status_code, made.json()["router_token"]) == (201, "shown-once")
    odd = await lab.me.post("/api/v1/deployment-targets", json={**new, "kind": "mainframe"})
    assert (odd.status_code, list(odd.json()["fields"])) == (400, ["kind"])
    assert (await lab.me.post(check)).json() == {"checks": [{"name": "connection", "ok": True, "message": ""}]}
    assert (await lab.me.post(clean_up)).json()["dry_run"] is True, "nothing is deleted but by those who say so"
    done = await lab.me.post(clean_up, params={"dry_run": False})
    assert done.json() == {"deleted": ["inference/old@sha256:1"], "kept": 1, "dry_run": False}


async def test_targets_are_changed_and_removed_by_administrators(lab, execute):
    [target] = (await lab.me.get("/api/v1/deployment-targets")).json()["items"]
    url = f"/api/v1/deployment-targets/{target['id']}"
    settings = {"cluster": {"namespace": "endpoints", "kubeconfig": "********"}}
    assert (await lab.me.get(url)).status_code == 404
    assert (await lab.me.patch(url, json={"is_default": False})).status_code == 404
    assert (await lab.me.post(f"{url}/router-token")).status_code == 404
    assert (await lab.me.delete(url)).status_code == 404
    await execute("UPDATE gateway.users SET is_admin = true")
    assert (await lab.me.get(url)).json() == {"id": target["id"], "settings": settings}
    assert (await lab.me.patch(url, json={"settings": settings})).status_code == 204
    assert lab.builder.target_changes[-1].settings == settings
    wrong = await lab.me.patch(url, json={"settings": {}})
    assert (wrong.status_code, list(wrong.json()["fields"])) == (400, ["settings"])
    odd = await lab.me.patch(url, json={"public_url": "models.test"})
    assert (odd.status_code, list(odd.json()["fields"])) == (400, ["public_url"])
    assert (await lab.me.post(f"{url}/router-token")).json()["router_token"] == "shown-once-more"
    assert (await lab.me.delete(url)).status_code == 409, "it has a deployment"
    new = {"name": "north", "kind": "kubernetes", "public_url": "https://north.test"}
    made = (await lab.me.post("/api/v1/deployment-targets", json=new)).json()["id"]
    assert (await lab.me.delete(f"/api/v1/deployment-targets/{made}", params={"force": True})).status_code == 204
    assert lab.builder.calls[-1][0] == f"DELETE /internal/v1/targets/{made}"
    assert (await lab.me.get(f"/api/v1/deployment-targets/{made}")).status_code == 404


async def test_builds_are_retried_cancelled_and_read(lab, other, two):
    first, _ = two
    url = f"/api/v1/deployment-versions/{first['id']}"
    for word in ("rebuild", "cancel"):
        assert (await other.post(f"{url}/{word}")).status_code == 404
        assert (await lab.me.post(f"{url}/{word}")).json()["name"] == "v1"
        assert lab.builder.calls[-1][0] == f"POST /internal/v1/versions/{first['id']}/{word}"
    endpoint = f"/api/v1/deployment-endpoints/{first['endpoints'][0]['id']}"
    lab.builder.build_log = {"lines": ["pulled", "pushed"], "next": 2, "status": "ready", "detail": ""}
    assert (await lab.me.get(f"{endpoint}/build-log")).json() == lab.builder.build_log
    at = "2026-01-01T00:00:00Z"
    line = {"at": at, "replica": "r1", "stream": "stdout", "text": "served"}
    lab.logs.log = {"lines": [line], "next": "739577/r1/1"}
    assert (await lab.me.get(f"{endpoint}/log", params={"limit": 5})).json() == lab.logs.log
    assert (await other.get(f"{endpoint}/log")).status_code == 404
    lab.logs.records = [{"_time": at, "guess": "dog"}]
    assert (await lab.me.get(f"{endpoint}/metadata")).json() == {"items": lab.logs.records}
    assert (await other.get(f"{endpoint}/metadata")).status_code == 404


async def test_traffic_is_counted_by_route_and_minute(lab, two, execute):
    first, _ = two
    endpoint = first["endpoints"][0]["id"]
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    buckets = [0, 0, 0, 90, 0, 0, 0, 0, 0, 10, 0, 0, 0]
    rows = (
        ("production", now - timedelta(minutes=2), 100, 5),
        ("v1", now - timedelta(minutes=1), 100, 0),
        ("v1", now - timedelta(minutes=90), 7, 7),
    )
    for segment, minute, requests, errors in rows:
        await execute(
            "INSERT INTO builder_pub.endpoint_minute_v1 VALUES ($1, $2, $3, $4, $5, 1, $6, 700, $7)",
            *(UUID(endpoint), f"/me/lab/main/{segment}/greet", minute, requests, errors, 8.0 * requests, buckets),
        )
    found = (await lab.me.get(f"/api/v1/deployment-endpoints/{endpoint}/metrics")).json()
    total = found["total"]
    assert (total["requests"], total["server_errors"], total["error_percent"]) == (200, 5, 2.5)
    assert (total["latency_ms_mean"], total["latency_ms_p50"], total["latency_ms_p95"]) == (8.0, 10.0, 700.0)
    assert [(one["via"], one["endpoint"], one["requests"]) for one in found["routes"]] == [
        ("production", "greet", 100),
        ("v1", "greet", 100),
    ]
    assert len(found["minutes"]) == 2
    assert [(one["version"], one["endpoint"], one["requests"]) for one in found["versions"]] == [("v1", "greet", 200)]
    [alias] = found["aliases"]
    assert (alias["alias"], alias["requests"], alias["error_percent"]) == ("production", 100, 5.0)
    assert (alias["latency_ms_p50"], alias["latency_ms_p99"]) == (10.0, 700.0)
    url = f"/api/v1/deployments/{lab.deployment['id']}/metrics"
    assert (await lab.me.get(url, params={"minutes": 180})).json()["total"]["requests"] == 207
    empty = (await lab.me.get(f"/api/v1/deployment-endpoints/{endpoint}/metrics", params={"minutes": 1})).json()
    assert empty["total"]["latency_ms_p50"] is None or empty["total"]["requests"]
