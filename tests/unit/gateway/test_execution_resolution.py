"""Payload > step > project: how a request and a step of a commit become a resolved run."""

from typing import Any
from uuid import UUID, uuid4

import pytest
import valohai_yaml
from pydantic import ValidationError

from slipway_gateway.executions.domain.environments import EnvironmentChoice, choose_environment
from slipway_gateway.executions.domain.problems import Problem, Problems
from slipway_gateway.executions.domain.request import RunRequest
from slipway_gateway.executions.domain.resolution import ResolvedStep, find_step, resolve_step
from slipway_gateway.executions.domain.variables import GroupChoice
from slipway_schemas.executions import EnvironmentVariable, KeepDirectories, SecretRef

PROJECT = uuid4()
CONFIG = valohai_yaml.parse(
    """
- step:
    name: pre
    image: python:3.12
    command:
      - pip install x
      - python train.py {parameters} --where {source-path}
    environment: gpu
    source-path: src
    time-limit: 1h 30m
    no-output-timeout: 90
    stop-condition: accuracy >= 0.99
    upload-store: cold
    autorestart: true
    icon: rocket
    mounts: ["/data:/mnt"]
    cache-volumes: [one]
    resources:
      cpu: {min: 1.5, max: 2}
      memory: {min: 100, max: 200}
      devices: {nvidia.com/gpu: 1}
    parameters:
      - {name: lr, type: float, default: 0.1, min: 0, max: 1, category: Training}
      - {name: n, type: integer, multiple: repeat, default: [1]}
      - {name: mode, type: string, default: fast, choices: [fast, slow], pass-as: "-m {v}"}
      - {name: maybe, type: string, optional: true, default: there}
      - {name: verbose, type: flag, default: true}
      - {name: seed, type: integer, optional: true}
    inputs:
      - {name: data, default: "s3://bucket/{parameter:mode}/*.csv", keep-directories: suffix}
      - {name: extra, optional: true, filename: e.bin, download: on-demand}
    environment-variables:
      - {name: A, default: step}
      - {name: NEEDED, optional: false}
- step:
    name: strict
    image: busybox
    command: echo {parameter-value:x}
    parameters:
      - {name: x, type: integer}
    inputs:
      - name: must
"""
)


GROUPS = [
    GroupChoice(
        UUID(int=1), "Cloud", {"A": EnvironmentVariable(value="cloud"), "B": EnvironmentVariable(value="cloud")}
    ),
    GroupChoice(UUID(int=2), "lab", {"B": EnvironmentVariable(value="lab"), "TOKEN": EnvironmentVariable(value="lab")}),
]


def attempt(step: str = "pre", **payload: Any) -> tuple[ResolvedStep, Problems]:
    payload.setdefault("environment_variables", {"NEEDED": "1"})
    problems = Problems()
    request = RunRequest.model_validate({"project": str(PROJECT), "commit": "main", "step": step, **payload})
    found = find_step(CONFIG, request.step, problems)
    assert found is not None
    inherited = {
        "A": EnvironmentVariable(value="project"),
        "TOKEN": EnvironmentVariable(secret=SecretRef(scope="project", scope_id=PROJECT, name="TOKEN", version=1)),
    }
    resolved = resolve_step(request, found, inherited, GROUPS, problems)
    return resolved, problems


def resolve(step: str = "pre", **payload: Any) -> ResolvedStep:
    resolved, problems = attempt(step, **payload)
    assert problems.found == {}
    return resolved


def codes(step: str = "pre", **payload: Any) -> dict[str, list[Problem]]:
    return attempt(step, **payload)[1].found


def test_what_the_payload_leaves_out_comes_from_the_step() -> None:
    run = resolve()
    assert run.image == "python:3.12"
    assert run.interpolated_command == (
        "pip install x\npython train.py --lr=0.1 --n=1 -m fast --maybe=there --where src"
    )
    assert run.parameters == {"lr": 0.1, "n": [1], "mode": "fast", "maybe": "there"}
    assert run.parameter_categories == {"lr": "Training"}
    assert (run.time_limit_seconds, run.no_output_timeout_seconds) == (5400, 90)
    assert run.stop_condition == "accuracy >= 0.99"
    assert run.autorestart
    assert run.upload_store == "cold"
    assert run.mounts[0].destination == "/mnt"
    assert run.cache_volumes == ("one",)
    assert run.resources.model_dump() == {
        "cpus": 1.5,
        "cpus_max": 2.0,
        "memory_bytes": 100 * 1024**2,
        "memory_max_bytes": 200 * 1024**2,
        "gpus": 1,
        "devices": {"nvidia.com/gpu": 1},
    }


def test_inputs_keep_their_attributes_and_have_parameters_put_in() -> None:
    data, extra = resolve(parameters={"mode": "slow"}).inputs
    assert data.urls == ("s3://bucket/slow/*.csv",)
    assert data.original_urls == ("s3://bucket/{parameter:mode}/*.csv",)
    assert data.keep_directories is KeepDirectories.SUFFIX
    assert (extra.urls, extra.filename, extra.download) == ((), "e.bin", "on-demand")


def test_the_payload_wins() -> None:
    run = resolve(
        image="img:2",
        parameters={"lr": "0.5", "n": [1, 2], "verbose": True, "seed": 7},
        inputs={"data": ["https://example.org/a.csv"]},
        environment_variables={"NEEDED": 1, "A": "payload"},
        time_limit=60,
        **{"no-output-timeout": "2min"},
        runtime_config={
            "autorestart": False,
            "remote_debug": {"debug_port": 2222, "debug_key": "ssh-ed25519 AAAA me@here"},
            "kubernetes": {
                "containers": {
                    "workload": {"resources": {"requests": {"cpu": 1, "memory": 50}, "limits": {"devices": {}}}}
                },
                "cache_volumes": [],
            },
        },
    )
    assert run.image == "img:2"
    assert "--lr=0.5 --n=1 --n=2 -m fast --maybe=there --verbose --seed=7" in run.interpolated_command
    assert run.parameters["lr"] == 0.5
    assert run.environment_variables["A"].value == "payload"
    assert run.environment_variables["NEEDED"].value == "1"
    assert run.environment_variables["TOKEN"].secret is not None
    assert (run.time_limit_seconds, run.no_output_timeout_seconds) == (60, 120)
    assert not run.autorestart
    assert (run.debug_port, run.debug_key) == (2222, "ssh-ed25519 AAAA me@here")
    assert (run.resources.cpus, run.resources.cpus_max, run.resources.memory_bytes) == (1.0, 2.0, 50 * 1024**2)
    assert (run.resources.devices, run.resources.gpus) == ({}, 0)
    assert run.cache_volumes == ()


def test_zero_lifts_the_time_limit_of_the_step() -> None:
    assert resolve(time_limit=0).time_limit_seconds is None


def test_groups_win_over_the_project_and_lose_to_step_and_payload() -> None:
    names = [str(UUID(int=1)), "LAB", "cloud"]
    found = resolve(environment_variable_groups=names).environment_variables
    assert {name: found[name].value for name in ("A", "B", "TOKEN")} == {"A": "step", "B": "lab", "TOKEN": "lab"}
    found = resolve(environment_variable_groups=["lab", "cloud"], environment_variables={"NEEDED": "1", "B": "me"})
    assert found.environment_variables["B"].value == "me"
    alone = resolve(environment_variable_groups=["cloud"], inherit_environment_variables=False).environment_variables
    assert (alone["B"].value, "TOKEN" in alone) == ("cloud", False)


def test_an_unknown_group_is_answered_with_the_known_ones() -> None:
    _, problems = attempt(environment_variable_groups=["lab", "nothing"])
    (problem,) = problems.found["environment_variable_groups"]
    assert problem.code == "does_not_exist"
    assert "'nothing'; there are: Cloud, lab" in problem.message


def test_project_variables_are_inherited_unless_refused() -> None:
    assert resolve().environment_variables["A"].value == "step"
    assert "TOKEN" in resolve().environment_variables
    assert "TOKEN" not in resolve(inherit_environment_variables=False).environment_variables
    assert "TOKEN" not in resolve(runtime_config={"inherit_environment_variables": False}).environment_variables


def test_null_leaves_out_an_optional_parameter_and_means_the_default_of_a_required_one() -> None:
    run = resolve(parameters={"maybe": None, "lr": None, "seed": None})
    assert "maybe" not in run.parameters
    assert "--maybe" not in run.interpolated_command
    assert run.parameters["lr"] == 0.1
    assert "seed" not in run.interpolated_command


def test_an_omitted_flag_stays_absent() -> None:
    assert "verbose" not in resolve().parameters
    assert "--verbose" not in resolve(parameters={"verbose": False}).interpolated_command
    assert "--verbose" in resolve(parameters={"verbose": "true"}).interpolated_command


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", "much", "not a floating-point number"),
        ("lr", 2, "greater than the maximum"),
        ("lr", -1, "less than the minimum"),
        ("lr", "nan", "cannot be the value"),
        ("lr", [0.1, 0.2], "Only a single value"),
        ("n", ["a"], "not an integer"),
        ("n", [[1]], "nested"),
        ("mode", "medium", "not among the choices"),
        ("mode", {"a": 1}, "not among the choices"),
        ("maybe", {"a": 1}, "cannot be the value"),
        ("verbose", "perhaps", "not among the choices"),
        ("lrr", 1, "has no such parameter"),
    ],
)
def test_wrong_parameters_are_named(name: str, value: Any, expected: str) -> None:
    [(message, _)] = codes(parameters={name: value})["parameters"]
    assert message.startswith(f"{name}: ")
    assert expected in message


def test_everything_required_is_asked_for_in_one_answer() -> None:
    found = codes("strict", environment_variables={})
    assert found == {
        "parameters": [("x: a value is required.", "required")],
        "inputs": [("must: at least one URI is required.", "required")],
    }
    assert codes(environment_variables={})["environment_variables"][0][1] == "required"


def test_a_required_parameter_cannot_be_null() -> None:
    assert codes("strict", parameters={"x": None}, inputs={"must": ["datum://a"]}) == {
        "parameters": [("x: a value is required.", "required")]
    }


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"inputs": {"dta": ["datum://x"]}}, "inputs"),
        ({"inputs": {"data": ["s3://b/{parameter:seed}"]}}, "inputs"),
        ({"time_limit": "soon"}, "time_limit"),
        ({"time_limit": "90x"}, "time_limit"),
        ({"time_limit": -5}, "time_limit"),
        ({"stop_condition": "a >="}, "stop_condition"),
        ({"stop_condition": "[a for a in b]"}, "stop_condition"),
        ({"runtime_config": {"remote_debug": {"debug_port": 22, "debug_key": "ssh-rsa AAAA"}}}, "runtime_config"),
        ({"runtime_config": {"remote_debug": {"debug_port": 2222, "debug_key": "secret"}}}, "runtime_config"),
        ({"runtime_config": {"kubernetes": []}}, "runtime_config"),
        ({"runtime_config": {"kubernetes": {"cache_volumes": "x"}}}, "runtime_config"),
        ({"environment_variable_groups": ["g"]}, "environment_variable_groups"),
        ({"runtime_config_preset": "p"}, "runtime_config_preset"),
        ({"environment_variables": {"NEEDED": "1", "1 A": "x"}}, "environment_variables"),
        ({"image": "a b"}, "image"),
    ],
)
def test_other_mistakes_are_field_errors(payload: dict[str, Any], field: str) -> None:
    assert list(codes(**payload)) == [field]


def test_an_unknown_step_is_named_with_those_that_exist() -> None:
    problems = Problems()
    assert find_step(CONFIG, "prepare", problems) is None
    assert "no step 'prepare'; it has: pre, strict" in problems.found["step"][0].message


def test_form_fields_carry_json() -> None:
    request = RunRequest.model_validate(
        {
            "project": str(PROJECT),
            "commit": "main",
            "step": "pre",
            "parameters": '{"lr": 0.2}',
            "inputs": '{"data": "s3://b/k"}',
            "tags": "one",
            "priority": "1",
            "time_limit": "60",
            "image": "",
        }
    )
    assert request.parameters == {"lr": 0.2}
    assert request.inputs == {"data": ["s3://b/k"]}
    assert (request.tags, request.priority, request.image) == (["one"], 1, None)


def test_a_form_with_broken_json_is_refused() -> None:
    with pytest.raises(ValidationError, match="not valid JSON"):
        RunRequest.model_validate({"project": str(PROJECT), "commit": "c", "step": "s", "parameters": "{lr:"})


CPU = EnvironmentChoice(UUID(int=1), "cpu-small", "Small", enabled=True)
GPU = EnvironmentChoice(UUID(int=2), "gpu-large", "Large", enabled=True)
OFF = EnvironmentChoice(UUID(int=3), "aaa-off", "Off", enabled=False)


@pytest.mark.parametrize(
    ("given", "step", "default", "expected"),
    [
        ("gpu-large", "cpu", CPU.id, GPU),
        ("GPU-Large", None, None, GPU),
        (str(GPU.id), None, None, GPU),
        ("PROJECT_DEFAULT", "cpu", GPU.id, GPU),
        (None, "gpu", CPU.id, GPU),
        (None, "Large", CPU.id, GPU),
        (None, None, GPU.id, GPU),
        (None, None, None, CPU),
        (None, None, uuid4(), CPU),
        ("aaa-off", None, None, OFF),
    ],
)
def test_the_environment_is_chosen(
    given: str | None, step: str | None, default: UUID | None, expected: EnvironmentChoice
) -> None:
    chosen = choose_environment([OFF, GPU, CPU], given=given, step=step, project_default=default, problems=Problems())
    assert chosen == expected


@pytest.mark.parametrize(("given", "step"), [("gpu", None), ("nope", "cpu"), (None, "tpu")])
def test_an_unknown_environment_is_a_field_error_with_its_code(given: str | None, step: str | None) -> None:
    problems = Problems()
    chosen = choose_environment([GPU, CPU], given=given, step=step, project_default=None, problems=problems)
    assert chosen is None
    assert problems.found["environment"][0].code == "does_not_exist"
