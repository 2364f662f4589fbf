"""The pages of deployments: what they show, and what their forms do."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.api.gateway.inference.conftest import SHA, Lab

HOSTILE = "<script>alert(1)</script>"
SHOTS = os.environ.get("SLIPWAY_SHOTS")


def keep(name: str, page: str) -> None:
    """Leave the page where a person can look at it."""
    if SHOTS:
        static = Path(__file__).parents[4] / "services/api-gateway/src/slipway_gateway/web/static/app.css"
        Path(SHOTS, f"{name}.html").write_text(page.replace("</head>", f"<style>{static.read_text()}</style></head>"))


@pytest.fixture
async def busy(lab: Lab, execute: Any) -> dict[str, Any]:
    """Two versions, an alias, a key, traffic and logs with hostile texts."""
    first = await lab.version(name="v1", environment_variables={"NOTE": HOSTILE})
    second = await lab.version(name="v2")
    await lab.builder.available(UUID(first["id"]))
    root = f"/api/v1/deployments/{lab.deployment['id']}"
    await lab.me.put(f"{root}/aliases/production", json={"version": "v1", "reason": HOSTILE})
    await lab.me.post(f"{root}/keys", json={"consumer": HOSTILE, "requests_per_minute": 600})
    endpoint = UUID(first["endpoints"][0]["id"])
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for minute in range(1, 40):
        for segment in ("production", "v1"):
            buckets = [0, 0, minute, 80, 5, 2, 1, 0, 0, 0, 0, 0, 0]
            await execute(
                "INSERT INTO builder_pub.endpoint_minute_v1 VALUES ($1, $2, $3, $4, $5, 3, $6, 77.5, $7)",
                *(endpoint, f"/me/lab/main/{segment}/greet", now - timedelta(minutes=minute), 88 + minute),
                *(minute % 7, 8.4 * (88 + minute), buckets),
            )
    detail = "Replica greet-1 ended with exit code 1 (crash loop)."
    await execute(
        "UPDATE builder_pub.endpoint_v1 SET status = 'UNAVAILABLE', status_detail = $2, problem = 'crash_loop',"
        " restarts = 5, last_lines = ARRAY['Traceback', 'ImportError: no module named flask'] WHERE version_id = $1",
        *(UUID(second["id"]), detail),
    )
    lab.builder.build_log = {
        "lines": ["base python:3.12-slim mounted", HOSTILE, "pushed in 0.4 s"],
        "next": 3,
        "status": "ready",
    }
    lines = [{"at": f"2026-01-01T00:00:{n:02}Z", "replica": "greet-1", "text": f"GET / {HOSTILE}"} for n in range(20)]
    lab.logs.log = {"lines": lines, "next": "739577/greet-1/20"}
    lab.logs.records = [{"_time": "2026-01-01T00:00:00", "score": n / 7, "guess": HOSTILE} for n in range(9)]
    return {"first": first, "second": second}


def place(lab: Lab) -> str:
    return f"/p/me/lab/deployment/{lab.deployment['id']}/"


async def test_pages_show_everything_and_run_nothing(lab, browser, busy, served_logs):
    version = f"{place(lab)}version/{busy['first']['id']}/"
    pages = {
        "deployments": "/p/me/lab/deployments/",
        "deployment": place(lab),
        "version": version,
        "broken": f"{place(lab)}version/{busy['second']['id']}/",
        "new-version": f"{place(lab)}new-version/",
    }
    seen = {}
    for name, path in pages.items():
        seen[name] = page = await browser.get(path)
        assert HOSTILE not in page
        keep(name, page)
    assert "production → v1" in seen["deployments"]
    assert "100% - Available" in seen["deployment"]
    assert "http://127.0.0.1:9/me/lab/main/production/greet" in seen["deployment"]
    assert "no replica" not in seen["version"].lower()
    assert "pushed in 0.4 s" in seen["version"]
    assert "http://127.0.0.1:9/me/lab/main/v1/greet" in seen["version"]
    assert "crash loop" in seen["broken"]
    assert "ImportError: no module named flask" in seen["broken"]
    assert lab.model["id"] in seen["new-version"]
    display = (await lab.me.get(busy["first"]["url"])).json()["urls"]["display"]
    assert display.endswith(version)
    assert lab.deployment["urls"]["display"].endswith(place(lab))
    stream = f"/api/v1/streams/deployment-endpoints/{busy['first']['endpoints'][0]['id']}/log/"
    assert f'data-stream="{stream}?from=739577/greet-1/20"' in seen["version"]
    assert "Metadata of greet" in seen["version"]
    assert ">score<" in seen["version"]
    await served_logs.stop()
    assert "cannot be read now" in await browser.get(version)


async def test_a_deployment_is_made_switched_and_deleted_by_forms(lab, browser):
    page = "/p/me/lab/deployments/"
    made = await browser.send(page, deployment="second", public="1")
    assert made.status_code == 303
    there = made.headers["location"]
    assert "public" in await browser.get(there)
    assert (await browser.send(there, f"{there}switch/", enabled="off", public="off")).status_code == 303
    assert "disabled" in await browser.get(there)
    taken = await browser.send(page, deployment="main")
    assert (taken.status_code, "deployment named main" in taken.text) == (400, True)
    wrong = await browser.send(there, f"{there}delete/", confirm="first")
    assert (wrong.status_code, "Type the name, second" in wrong.text) == (400, True)
    gone = await browser.send(there, f"{there}delete/", confirm="second")
    assert gone.headers["location"] == page
    await browser.get(there, 404)


async def test_a_version_is_made_and_handled_by_forms(lab, browser):
    form = f"{place(lab)}new-version/"
    fields = {"commit": SHA, "endpoint:greet": "1", "replicas:greet": "2", "version": "v7", "inherit": "1"}
    refused = await browser.send(form, **fields)
    assert (refused.status_code, "the file model has no datum" in refused.text) == (400, True)
    fields |= {"replicas_max:greet": "5"}
    fields |= {"file:greet:model": f"datum://{lab.model['id']}", "environment_variables": "A=b=c\n\nD=e"}
    made = await browser.send(form, **fields)
    assert made.status_code == 303, made.text[-3000:]
    draft = lab.builder.drafts[-1]
    assert (draft.name, draft.own_variables) == ("v7", {"A": "b=c", "D": "e"})
    assert (draft.endpoints[0].scale.replicas, draft.endpoints[0].scale.replicas_max) == (2, 5)
    version = made.headers["location"]
    assert "data-unfinished" in await browser.get(version)
    for action in ("disable", "enable", "rebuild", "cancel"):
        assert (await browser.send(version, f"{version}{action}/")).status_code == 303
    scaled = await browser.send(version, f"{version}scale/", endpoint="greet", replicas="1", replicas_max="4")
    assert scaled.status_code == 303
    assert "1 to 4, by CPU" in await browser.get(version)
    await browser.send(version, f"{version}scale/", endpoint="greet", replicas="0", replicas_max="4")
    assert "0 to 4, asleep while nobody asks, by CPU" in await browser.get(version)
    odd = await browser.send(version, f"{version}scale/", endpoint="greet", replicas="many")
    assert odd.status_code == 400
    tried = await browser.send(version, f"{version}test/", endpoint="greet", method="POST", path="/x", body='{"a": 1}')
    assert (tried.status_code, "cannot be reached" in tried.text) == (200, True)
    assert (await browser.send(version, f"{version}nothing/")).status_code == 404
    assert (await browser.send(version, f"{version}delete/")).headers["location"] == place(lab)
    await browser.get(version, 404)


async def test_aliases_and_keys_by_forms(lab, browser, busy):
    page = place(lab)
    early = await browser.send(page, f"{page}aliases/", alias="production", version="v2")
    assert (early.status_code, "not ready" in early.text) == (400, True)
    odd = await browser.send(page, f"{page}aliases/", alias="A b", version="v1")
    assert (odd.status_code, "part of URLs" in odd.text) == (400, True)
    await lab.builder.available(UUID(busy["second"]["id"]))
    assert (await browser.send(page, f"{page}aliases/", alias="production", version="v2")).status_code == 303
    assert (await browser.send(page, f"{page}aliases/rollback/", alias="production")).status_code == 303
    assert lab.builder.calls[-1][0].endswith("/aliases/production/rollback")
    made = await browser.send(page, f"{page}keys/", consumer="shop", endpoints="greet", days="30")
    assert made.status_code == 200
    assert "shown this once" in made.text
    keep("issued", made.text)
    key = lab.builder.keys[-1]
    assert (key.consumer, key.endpoints) == ("shop", ("greet",))
    odd = await browser.send(page, f"{page}keys/", consumer="shop", days="soon")
    assert (odd.status_code, "a number from 1" in odd.text) == (400, True)
    assert (await browser.send(page, f"{page}keys/revoke/", key=str(key.id))).status_code == 303
    assert (await browser.send(page, f"{page}aliases/delete/", alias="production")).status_code == 303
    assert "No alias has been moved" not in await browser.get(page)


async def test_a_canary_with_bounds_by_forms(lab, browser, busy):
    page = place(lab)
    await lab.builder.available(UUID(busy["second"]["id"]))
    wanted = {"alias": "production", "version": "v1", "canary": "v2", "canary_percent": "10"}
    for field, value, said in (
        ("canary_percent", "", "needs a version and its share"),
        ("canary_percent", "101", "a number from 1 to 100"),
        ("canary", "v9", "has no version"),
        ("max_error_percent", "0", "above 0 and up to 100"),
        ("max_latency_ms", "nan", "above 0 and up to 3600000"),
    ):
        odd = await browser.send(page, f"{page}aliases/", **{**wanted, field: value})
        assert (odd.status_code, said in odd.text) == (400, True), (field, odd.text)
    bounds = {"max_error_percent": "2,5", "max_latency_ms": "300", "sticky": "1"}
    assert (await browser.send(page, f"{page}aliases/", **wanted, **bounds)).status_code == 303
    move = lab.builder.moves[-1]
    assert (str(move.canary_version_id), move.canary_percent, move.sticky) == (busy["second"]["id"], 10, True)
    assert (move.max_error_percent, move.max_latency_ms) == (2.5, 300)
    shown = await browser.get(page)
    keep("canary", shown)
    assert "stays with the version that it met" in shown
    assert "above 2.5 % server errors or 300 ms" in shown
    assert "All to v2" in shown
    assert (await browser.send(page, f"{page}aliases/", **wanted)).status_code == 303
    assert lab.builder.moves[-1].sticky is False
    end = {"alias": "production", "version": busy["first"]["id"], "reason": "The canary was ended."}
    assert (await browser.send(page, f"{page}aliases/", **end)).status_code == 303
    assert (lab.builder.moves[-1].canary_version_id, lab.builder.moves[-1].sticky) == (None, True)
    history = (await lab.me.get(f"/api/v1/deployments/{lab.deployment['id']}/alias-moves")).json()["items"]
    assert [(one["canary_version"], one["canary_percent"]) for one in history[:2]] == [(None, 0), ("v2", 10)]


async def test_others_see_no_page(lab, browser, browser_of, other, busy):
    stranger = await browser_of(other)
    version = f"{place(lab)}version/{busy['first']['id']}/"
    for path in ("/p/me/lab/deployments/", place(lab), version, f"{place(lab)}new-version/"):
        await stranger.get(path, 404)


async def test_administrators_add_change_test_and_remove_targets(lab, browser, execute):
    page = "/admin/targets/"
    await browser.get(page, 404)
    await execute("UPDATE gateway.users SET is_admin = true")
    settings = '{"cluster": {"namespace": "endpoints"}}'
    north = {"name": "north", "kind": "kubernetes", "public_url": "https://north.test", "settings": settings}
    for wrong, says in (
        ({"settings": "{"}, "This is not JSON"),
        ({"settings": "[]"}, "Write a JSON object"),
        ({"public_url": "north.test"}, 'value="north.test"'),
        ({"name": HOSTILE}, "&lt;script&gt;"),
    ):
        refused = await browser.send(page, **{**north, **wrong})
        assert (refused.status_code, says in refused.text, HOSTILE in refused.text) == (400, True, False)
    made = await browser.send(page, **north, kubeconfig="apiVersion: v1\r\n")
    assert "shown-once" in made.text
    assert "shown-once" not in await browser.get(page)
    [target] = [
        one for one in (await lab.me.get("/api/v1/deployment-targets")).json()["items"] if one["name"] == "north"
    ]
    root = f"{page}{target['id']}/"
    keep("targets", await browser.get(page))
    keep("target", await browser.get(root))
    checked = await browser.send(root, f"{root}check/")
    keep("target-checked", checked.text)
    assert ">connection<" in checked.text
    planned = await browser.send(root, f"{root}clean-up/")
    assert "inference/old@sha256:1" in planned.text
    assert "Delete them" in planned.text
    assert "Images deleted: 1 (1 are needed)" in (await browser.send(root, f"{root}clean-up/", delete="1")).text
    saved = await browser.send(root, public_url="https://south.test", settings=settings, kubeconfig="new")
    assert saved.status_code == 303
    assert lab.builder.target_changes[-1].settings["cluster"] == {"namespace": "endpoints", "kubeconfig": "new\n"}
    assert "https://south.test" in await browser.get(root)
    refused = await browser.send(root, public_url="https://south.test", settings="{}")
    assert (refused.status_code, "from another namespace" in refused.text) == (400, True)
    assert "shown-once-more" in (await browser.send(root, f"{root}router-token/")).text
    assert (await browser.send(root, f"{root}default/")).status_code == 303
    assert (await browser.send(root, f"{root}delete/")).headers["location"] == page
    await browser.get(root, 404)
