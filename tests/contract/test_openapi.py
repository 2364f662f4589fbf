"""The OpenAPI documents of all services are part of the contract: every change of them is seen in a review.

`SLIPWAY_UPDATE_SNAPSHOTS=1 pytest tests/contract/test_openapi.py` writes them anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from slipway_builder.spec import SPEC as BUILDER
from slipway_gateway.spec import SPEC as GATEWAY
from slipway_kit.service import ServiceSpec
from slipway_logs.spec import SPEC as LOGS
from slipway_scheduler.spec import SPEC as SCHEDULER

SPECS: dict[str, ServiceSpec[Any, Any]] = {spec.name: spec for spec in (GATEWAY, SCHEDULER, LOGS, BUILDER)}
APPS = [
    ("gateway", "public"),
    ("gateway", "workers"),
    ("gateway", "internal"),
    ("scheduler", "workers"),
    ("scheduler", "internal"),
    ("logs", "public"),
    ("logs", "workers"),
    ("logs", "internal"),
    ("builder", "internal"),
]
FOLDER = Path(__file__).parent / "openapi"
UPDATE = os.environ.get("SLIPWAY_UPDATE_SNAPSHOTS") == "1"


def document(service: str, app: str) -> dict[str, Any]:
    """What the app says of itself."""
    schema_apps = SPECS[service].schema_apps
    assert schema_apps is not None
    found = getattr(schema_apps(), app)
    assert isinstance(found, FastAPI)
    described: dict[str, Any] = json.loads(json.dumps(found.openapi()))
    return described


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Where two documents differ, as paths with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{place}/{key}")]
    return [] if old == new else [f"{place}: {old!r:.120} -> {new!r:.120}"]


@pytest.mark.parametrize(("service", "app"), APPS)
def test_document_is_the_one_in_the_snapshot(service: str, app: str) -> None:
    described = document(service, app)
    file = FOLDER / f"{service}-{app}.json"
    if UPDATE:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    changed = differences(json.loads(file.read_text()), described)
    assert not changed, "The API has changed; if that is meant, set SLIPWAY_UPDATE_SNAPSHOTS=1.\n" + "\n".join(changed)


def test_every_app_has_a_snapshot_and_every_snapshot_an_app() -> None:
    described = [
        (name, app)
        for name, spec in SPECS.items()
        for app in ("public", "workers", "internal")
        if spec.schema_apps is not None and getattr(spec.schema_apps(), app) is not None
    ]
    assert described == APPS
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted(f"{name}-{app}.json" for name, app in APPS)


@pytest.mark.parametrize(("service", "app"), APPS)
def test_no_route_says_that_it_answers_422(service: str, app: str) -> None:
    for path, methods in document(service, app)["paths"].items():
        for method, operation in methods.items():
            assert "422" not in operation["responses"], (method, path)
