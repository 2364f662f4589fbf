"""Row 59: `valohai-utils` inside the run."""

import json

import pytest

from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import Lab

pytestmark = pytest.mark.vh


def test_valohai_utils_reads_and_writes_everything(lab: Lab, desk: Desk) -> None:
    """Row 59: parameters, inputs, metadata, outputs, properties, tags and an alias; datasets come later."""
    first = lab.api.upload(lab.project, "first.txt", b"first file\n")
    second = lab.api.upload(lab.project, "second.txt", b"second file\n")
    counter = desk.run(
        *("utils", "--adhoc", "--factor=2.5", "--names=x", "--names=y z", "--flagged=true"),
        *(f"--data=datum://{first['id']}", f"--data=datum://{second['id']}"),
    )
    execution = lab.wait_counter(counter, timeout=240)
    outputs = lab.api.outputs(execution)
    assert set(outputs) == {"seen.json", "sub/model.txt", "live.txt"}
    assert json.loads(lab.api.content(outputs["seen.json"])) == {
        "factor": 2.5,
        "names": ["x", "y z"],
        "flagged": True,
        "first": "first.txt",
        "files": ["first.txt", "second.txt"],
        "content": {"first.txt": "first file\n", "second.txt": "second file\n"},
    }
    assert lab.api.content(outputs["live.txt"]) == b"live\n"
    model = outputs["sub/model.txt"]
    assert sorted(model["tags"]) == ["e2e", "model"]
    properties = lab.api.get(f"data/{model['id']}/metadata/")
    assert properties["stage"] == "test"
    resolved = lab.api.get("datum-aliases/resolve/", name="e2e-model", project=lab.project)
    assert resolved["datum"]["id"] == model["id"]
    assert resolved["datum"]["sha256"] == model["sha256"]
    assert execution["cumulative_metadata"]["epoch"] == 3
    assert execution["cumulative_metadata"]["factor"] == 2.5
    assert [one["epoch"] for one in lab.api.get(f"executions/{execution['id']}/metadata/") if "epoch" in one] == [3]

    by_alias = lab.run("pre", inputs={"data": ["datum://e2e-model"]})
    report = json.loads(lab.api.output(lab.api.wait_complete(by_alias["id"]), "report.json"))
    assert report["inputs"] == {"data/model.txt": model["sha256"]}


def test_valohai_utils_downloads_a_datum_by_id_outside_of_a_run(lab: Lab, desk: Desk) -> None:
    """The route without a slash at its end that `valohai-utils` calls (contract 1.1)."""
    datum = lab.api.upload(lab.project, "plain.txt", b"plain\n")
    answer = lab.api.call("GET", f"/api/v0/data/{datum['id']}")
    assert answer.status_code == 200
    assert answer.history == []
    assert answer.json()["sha256"] == datum["sha256"]
