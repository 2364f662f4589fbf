"""schemathesis over the OpenAPI of every app of every service: no 5xx, and no answer that is not documented.

`SLIPWAY_FUZZ_SEED` repeats a run; `SLIPWAY_CHAOS=full` sends far more.
"""

from typing import Any

import pytest

from tests.api.platform.apps import APPS, Target
from tests.api.platform.fuzzing import FULL, fuzz
from tests.api.platform.population import Estate, settle
from tests.api.platform.services import Services

# schemathesis and hypothesis warn about strategies and deprecated parts of each other, which says nothing of ours.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(7200 if FULL else 300)]
FEWEST_LINKS = 1


@pytest.fixture(scope="module")
def victim(services: Services) -> Any:
    """A user whose things may be changed at random."""
    made = settle(services, "victim")
    yield made
    made.client.close()


def creating(estate: Estate) -> dict[str, list[Any]]:
    """Bodies that make something, by operation."""
    here = {"project": estate.project["id"]}
    run = {**here, "commit": estate.commit, "step": "train", "environment": estate.machine.slug}
    store = {"bucket": "b", "access_key_id": "k", "secret_access_key": "s", "test_configuration": False}
    return {
        "post /api/v0/projects/": [{"name": f"made-{number}"} for number in range(500)],
        "post /api/v0/executions/": [run, {**run, "tags": ["a"], "title": "again"}],
        "post /api/v0/data/upload/": [{**here, "name": "a.bin", "size": 3}],
        "post /api/v0/datum-aliases/": [
            {**here, "name": f"name-{number}", "datum": estate.datum["id"]} for number in range(500)
        ],
        "post /api/v0/stores/": [{"name": "s", "type": "s3", "configuration": store, **here}],
        "post /api/v0/deployments/": [{**here, "name": f"made-{number}"} for number in range(500)],
        "post /api/v0/deployment-versions/": [
            {
                "deployment": estate.served.deployment,
                "commit": estate.commit,
                "endpoint_configurations": {"serve": {"files": {"model": estate.datum["id"]}}},
            }
        ],
        "post /internal/v1/environments": [{"slug": f"made-{number}", "name": "made"} for number in range(500)],
    }


@pytest.mark.parametrize(("service", "app"), APPS)
def test_no_server_errors_and_nothing_undocumented(services: Services, victim: Estate, service: str, app: str) -> None:
    target = Target(services, victim, service, app)
    found = fuzz(target.document, target.url, target.headers, known=target.known, bodies=creating(victim))
    print(found.report(f"{service} {app}"))
    assert not found.problems, f"{len(found.problems)} problems; {found.report(service)}\n\n{found.complaint()}"
    if (service, app) == ("gateway", "public"):
        assert found.links >= FEWEST_LINKS, "The stateful phase followed no links: it tests nothing."
