"""What no database keeps is refused where people send it, and cleaned where a worker reports it."""

import math
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from slipway_schemas.environments import EnvironmentCreate, EnvironmentSettings
from slipway_schemas.executions import ExecutionPatch
from slipway_schemas.storable import is_storable, made_storable
from slipway_schemas.workers import Capacity, SyncRequest


@pytest.mark.parametrize("value", ["a\0", "\ud800", math.inf, math.nan, {"\0": 1}, [{"a": ["\udfff"]}], ("\0",)])
def test_unstorable_values_are_found_and_cleaned(value: Any) -> None:
    assert not is_storable(value)
    assert is_storable(made_storable(value))


def test_storable_values_stay() -> None:
    value = {"ä": [1, 2.5, None, True, "\U0001f600", {"b": []}]}
    assert is_storable(value)
    assert made_storable(value) == value


@pytest.mark.parametrize("change", [{"title": "\0"}, {"tags": ["\ud800"]}, {"priority": 2**31}])
def test_requests_of_people_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExecutionPatch.model_validate(change)


@pytest.mark.parametrize(
    "change",
    [
        {"per_hour_price_usd": 5.7e16},
        {"per_hour_price_usd": "NaN"},
        {"per_user_queue_quota": 2**31},
        {"owner_id": 2**31},
        {"settings": {"lost_after_seconds": 2**62}},
        {"settings": {"log_limit_bytes": 2**63}},
    ],
)
def test_environments_have_numbers_that_columns_hold(change: dict[str, Any]) -> None:
    EnvironmentCreate.model_validate({"slug": "a", "name": "a"})
    with pytest.raises(ValidationError):
        EnvironmentCreate.model_validate({"slug": "a", "name": "a", **change})


def test_a_lease_never_outlives_what_the_database_reckons_with() -> None:
    with pytest.raises(ValidationError):
        EnvironmentSettings(lost_after_seconds=10**12)


def test_reports_of_workers_are_cleaned() -> None:
    report = {
        "free": {"slots": 1, "cpus": 1, "memory_bytes": 1},
        "facts": [
            {
                "kind": "failed",
                "attempt_id": str(uuid4()),
                "seq": 1,
                "at": datetime.now(UTC).isoformat(),
                "reason": "internal",
                "message": "it said \0",
                "retryable": False,
                "evidence": {"tail": ["\0\ud800"], "load": math.inf},
            }
        ],
    }
    fact = SyncRequest.model_validate(report).facts[0]
    assert fact.kind == "failed"
    assert fact.message == "it said \N{REPLACEMENT CHARACTER}"
    assert fact.evidence == {"tail": ["\N{REPLACEMENT CHARACTER}" * 2], "load": None}


@pytest.mark.parametrize("free", [{"slots": 2**31}, {"memory_bytes": 2**63}, {"gpus": 2**31}, {"cpus": math.inf}])
def test_capacities_fit_their_columns(free: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Capacity.model_validate({"slots": 1, "cpus": 1, "memory_bytes": 1, **free})
