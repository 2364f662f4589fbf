"""Who has changed an object is told by who owns its fields."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from slipway_builder.targets.kubernetes.drift import Owned

ENDPOINT = uuid4()
FIELDS = {"f:spec": {"f:replicas": {}, "f:template": {"f:image": {}, "f:env": {}}}}


def live(
    fields: dict[str, Any] = FIELDS, *, kind: str = "Deployment", version: str = "2", endpoint: UUID = ENDPOINT
) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {
            "name": "slipway-1",
            "resourceVersion": version,
            "labels": {"slipway/endpoint-id": str(endpoint)},
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
                {"manager": "slipway", "operation": "Apply", "fieldsV1": fields},
            ],
        },
    }


LOST = {"f:spec": {"f:template": {"f:image": {}, "f:env": {}}}}
MORE = {"f:spec": {"f:replicas": {}, "f:template": {"f:image": {}, "f:env": {}, "f:node": {}}}}


@pytest.mark.parametrize(
    ("listed", "drifted"),
    [
        ({"Deployment": [live(version="1")]}, False),
        ({"Deployment": [live(version="7")]}, False),
        ({"Deployment": [live(LOST)]}, True),
        ({"Deployment": [live(MORE)]}, False),
        ({"Deployment": []}, True),
        ({}, False),
        ({"Deployment": [live()], "PodDisruptionBudget": [live(kind="PodDisruptionBudget")]}, True),
        ({"Deployment": [live(), live(LOST, endpoint=uuid4())]}, False),
    ],
    ids=["unchanged", "status", "taken", "added", "deleted", "not listed", "too many", "another's"],
)
def test_drift(listed: dict[str, list[dict[str, Any]]], drifted: bool) -> None:
    owned = Owned()
    owned.applied(ENDPOINT, [live(version="1")])
    assert (ENDPOINT in owned.drifted(listed)) is drifted
    owned.forget(ENDPOINT)
    assert owned.drifted(listed) == set()


def test_what_was_applied_again_is_no_drift_any_more() -> None:
    owned = Owned()
    owned.applied(ENDPOINT, [live(version="1")])
    assert owned.drifted({"Deployment": [live(LOST, version="2")]}) == {ENDPOINT}
    owned.applied(ENDPOINT, [live(version="3")])
    assert owned.drifted({"Deployment": [live(version="3")]}) == set()
