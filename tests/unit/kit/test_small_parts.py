import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import EntryPoint

import pytest
import structlog
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from slipway_kit.app import create_app
from slipway_kit.cli import service_cli
from slipway_kit.errors import ErrorStyle, Invalid, NotFound, Unavailable
from slipway_kit.ids import new_id
from slipway_kit.logging import mask_secrets
from slipway_kit.pagination import decode_cursor, encode_cursor
from slipway_kit.registry import Registry
from slipway_kit.service import Apps, ServiceSpec
from slipway_kit.settings import ServiceSettings


def test_ids_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert {one.version for one in ids} == {7}


def test_cursors_keep_types() -> None:
    values = (7, "name", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), new_id(), None)
    assert decode_cursor(encode_cursor(*values)) == values


@pytest.mark.parametrize("cursor", ["", "%%%", "bm9wZQ", "eyJhIjoxfQ", "W3siYSI6MX1d", "é"])
def test_foreign_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_cursor(cursor)
    assert list(caught.value.fields) == ["cursor"]


def test_a_broken_provider_is_shown_with_its_reason() -> None:
    group = "slipway.providers.test"
    registry: Registry[object] = Registry(
        group, [EntryPoint("good", "json:loads", group), EntryPoint("bad", "slipway_missing:Thing", group)]
    )
    assert registry.get("good") is json.loads
    assert [(one.name, one.available) for one in registry.statuses()] == [("bad", False), ("good", True)]
    with pytest.raises(Unavailable, match="slipway_missing"):
        registry.get("bad")
    with pytest.raises(NotFound, match="known: good"):
        registry.get("other")


def test_secrets_are_masked_in_logs() -> None:
    event = mask_secrets(structlog.get_logger(), "info", {"event": "x", "Token": "abc", "user": "u"})
    assert "abc" not in str(event)
    assert event["user"] == "u"


def test_openapi_is_printed_without_a_context() -> None:
    @asynccontextmanager
    async def no_context(_: ServiceSettings) -> AsyncIterator[None]:
        raise AssertionError("not to be opened")
        yield

    def apps() -> Apps:
        return Apps(public=create_app("Printed", style=ErrorStyle.V0))

    spec = ServiceSpec[ServiceSettings, None](
        name="probe",
        settings=ServiceSettings,
        context=no_context,
        apps=lambda _: apps(),
        background=lambda _: [],
        ready=lambda _: [],
        metrics=lambda _: CollectorRegistry(),
        schema_apps=apps,
    )
    runner = CliRunner()
    printed = runner.invoke(service_cli(spec), ["openapi", "--app", "public"])
    assert json.loads(printed.output)["info"]["title"] == "Printed"
    assert runner.invoke(service_cli(spec), ["openapi", "--app", "workers"]).exit_code == 2
