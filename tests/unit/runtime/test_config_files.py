"""Configuration files as `valohai-utils` reads them."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import yaml

from slipway_runtime.config_files import write_config_files
from slipway_runtime.paths import ContainerPaths
from slipway_schemas.attempts import AttemptDocument, ResolvedFile, ResolvedInput
from slipway_schemas.environments import EnvironmentSettings
from slipway_schemas.executions import CodeRef, ExecutionSpec, InputSpec


def test_files_and_their_twins(tmp_path: Path) -> None:
    spec = ExecutionSpec(
        code=CodeRef(identifier="abc"),
        step="train",
        image="python:3.11",
        command=("true",),
        interpolated_command="true",
        parameters={"lr": 0.1, "nothing": None},
        inputs=(InputSpec(name="data"), InputSpec(name="empty")),
    )
    document = AttemptDocument(
        attempt_id=uuid.uuid4(),
        number=1,
        execution_id=uuid.uuid4(),
        counter=7,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        project_id=uuid.uuid4(),
        project_name="me/mine",
        creator_id=1,
        creator_name="me",
        environment_id=uuid.uuid4(),
        environment_name="Local",
        environment_slug="local",
        environment=EnvironmentSettings(),
        spec=spec,
    )
    file = ResolvedFile(name="d/a.csv", uri="s3://b/a.csv", url="http://x", datum_id=uuid.uuid4(), cache_key="k")
    resolved = ResolvedInput(name="data", input_id=uuid.uuid4(), download="always", files=(file,))
    write_config_files(tmp_path, document, [resolved], ContainerPaths(), {"input_request": {"url": "http://x"}})
    assert json.loads((tmp_path / "parameters.json").read_text()) == {"lr": 0.1}
    inputs = json.loads((tmp_path / "inputs.json").read_text())
    assert inputs["empty"] == {"files": []}
    assert inputs["data"]["files"][0]["path"] == "/valohai/inputs/data/d/a.csv"
    assert inputs["data"]["files"][0]["uri"] == f"datum://{file.datum_id}"
    execution = yaml.safe_load((tmp_path / "execution.yaml").read_text())
    assert execution["valohai.execution-counter"] == 7
    assert execution["valohai.execution-ctime"] == "2026-01-01T00:00:00+00:00"
