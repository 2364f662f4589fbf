"""Rows 11, 13, 17, 18, 20, 21, 23, 24, 25 and 29: from code to a run, with what the client leaves out filled in."""

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from slipway_testing.git_servers import GitSshServer
from slipway_testing.s3 import S3Server
from tests.e2e.support.api import Api, Json
from tests.e2e.support.desk import Desk, in_table
from tests.e2e.support.lab import Lab
from tests.e2e.support.repository import git, new_checkout

pytestmark = pytest.mark.vh

MIB = 1024**2


def report_of(api: Api, execution: Json) -> dict[str, Any]:
    """What `pre.py` says it was given."""
    found: dict[str, Any] = json.loads(api.output(execution, "report.json"))
    return found


def test_fetch_reports_new_commits_once_and_commits_lists_them(lab: Lab, prepared_desk: Desk, tmp_path: Path) -> None:
    """Rows 11 and 13: a project of its own, its repository linked by API."""
    name = f"fetched-{os.urandom(3).hex()}"
    checkout = new_checkout(tmp_path / "code", lab.remote.create(name), lab.mount)
    first = checkout.head
    lab.linked_project(name, name, fetch=False)
    desk = prepared_desk.copy(tmp_path / "home").elsewhere(checkout.folder)
    desk.vh("project", "link", name, "--yes")
    assert f"Fetched: main ({first})" in desk.vh("project", "fetch").both
    nothing = desk.vh("project", "fetch")
    assert "Fetched" not in nothing.both

    time.sleep(1.1)  # git's times have whole seconds
    (checkout.folder / "more.txt").write_text("more\n")
    second = checkout.commit("Add more")
    checkout.push()
    git(checkout.folder, "push", "--quiet", "origin", "HEAD:refs/heads/feature")
    fetched = desk.vh("project", "fetch").both
    assert f"Fetched: main ({second})" in fetched
    assert f"Fetched: feature ({second})" in fetched

    desk.run("quick", "--adhoc")
    listed = desk.json("project", "commits")
    assert [one["identifier"] for one in listed] == [f"{second} (current)", first]
    assert "Add more" in desk.vh("project", "commits").out


def test_adhoc_run_completes_and_the_same_code_is_not_sent_again(lab: Lab, own_copy: Desk) -> None:
    """Rows 17 and 18."""
    (own_copy.folder / "local-change.txt").write_text(os.urandom(8).hex())
    first = own_copy.vh("exec", "run", "pre", "--adhoc")
    uploaded = re.search(r"Uploaded ad-hoc code (~[0-9a-f]{64})", first.both)
    assert uploaded, first.both
    created = re.search(r"Execution #(\d+) created\. See (\S+)", first.both)
    assert created, first.both
    again = own_copy.vh("exec", "run", "quick", "--adhoc")
    assert f"Ad-hoc code {uploaded.group(1)} already uploaded" in again.both
    assert "Uploading" not in again.both

    execution = lab.wait_counter(int(created.group(1)))
    assert execution["urls"]["display"] == created.group(2)
    assert execution["commit"]["identifier"] == uploaded.group(1)
    assert execution["exit_code"] == 0
    assert "pre ends" in lab.api.lines(execution)
    assert lab.api.lines(execution, "stderr") == ["to stderr"]
    assert execution["cumulative_metadata"]["accuracy"] == 0.75
    stored = lab.platform.home / "store" / "code" / uploaded.group(1)[1:3]
    packages = [file for file in stored.iterdir() if file.name.startswith(uploaded.group(1)[1:])]
    assert len(packages) == 1
    assert hashlib.sha256(packages[0].read_bytes()).hexdigest() == uploaded.group(1)[1:]


def test_a_package_of_900_mib_is_taken_with_flat_memory(lab: Lab, own_copy: Desk) -> None:
    """Row 20. Random bytes, so that the package is as large as its files."""
    block = os.urandom(8 * MIB)
    for number in range(5):
        with (own_copy.folder / f"large-{number}.bin").open("wb") as file:
            for part in range(180 // 8):
                file.write(part.to_bytes(4, "big") + block[4:])
    before = peak = lab.platform.memory_bytes("gateway")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(own_copy.vh, "exec", "run", "quick", "--adhoc", "--no-validate-adhoc", timeout=240)
        while not running.done():
            peak = max(peak, lab.platform.memory_bytes("gateway"))
            time.sleep(0.05)
        answer = running.result()
    assert "Uploaded ad-hoc code ~" in answer.both
    assert peak - before < 96 * MIB, f"the gateway grew by {(peak - before) // MIB} MiB"
    created = re.search(r"Execution #(\d+) created", answer.both)
    assert created
    execution = lab.api.execution(f"{lab.project}:{created.group(1)}")
    lab.api.call("POST", f"{execution['url']}stop/")  # 900 MiB need not be unpacked for this
    lab.api.wait(execution["id"])


def test_committed_code_runs_with_what_its_yaml_says(lab: Lab, desk: Desk, platform_image: str) -> None:
    """Row 21: image, environment, mount and pass-as are not in the payload; the commit's YAML has them."""
    counter = desk.run("pre")
    mounted = desk.run("mounted") if lab.platform.runtime == "docker" else None
    execution = lab.wait_counter(counter)
    assert execution["commit"]["identifier"] == lab.checkout.head
    assert execution["image"] == "slipway-test/python:bookworm"
    assert execution["environment"]["slug"] == "local"
    assert execution["interpolated_command"] == (
        "python3 pre.py --learning-rate=0.1 --n=1 '--ratios=0.5;0.25' '--label=two words' --mode=quick --speed=fast"
    )
    report = report_of(lab.api, execution)
    assert report["argv"] == [
        *("--learning-rate=0.1", "--n=1", "--ratios=0.5;0.25", "--label=two words", "--mode=quick", "--speed=fast")
    ]
    assert report["environment"]["GREETING"] == "hello"
    assert platform_image in report["os"]
    if mounted is not None:
        seen = lab.wait_counter(mounted)
        assert seen["mounts"] == [{"source": str(lab.mount), "destination": "/mnt/e2e", "readonly": True}]
        assert lab.api.lines(seen) == ["from the mount"]


@pytest.fixture(scope="session")
def platform_image(lab: Lab) -> str:
    """A line of the run's /etc/os-release: the image's on Docker, else this machine's."""
    if lab.platform.runtime == "docker":
        return "VERSION_CODENAME=bookworm"
    return Path("/etc/os-release").read_text().splitlines()[0]


@pytest.fixture
def bucket(lab: Lab, moto_s3: S3Server) -> Iterator[S3Server]:
    """A bucket with files, connected to the lab for reading."""
    client = boto3.client(
        "s3",
        endpoint_url=moto_s3.endpoint,
        aws_access_key_id=moto_s3.access_key,
        aws_secret_access_key=moto_s3.secret_key,
        region_name=moto_s3.region,
    )
    for key in ("sets/a.csv", "sets/b.csv", "sets/skipped.txt", "sets/sub/c.csv"):
        client.put_object(Bucket=moto_s3.bucket, Key=key, Body=key.encode())
    client.close()
    store = lab.api.post(
        "stores/",
        {
            "name": moto_s3.bucket,
            "type": "s3",
            "access_mode": "single_project",
            "project": lab.project,
            "configuration": {
                "bucket": moto_s3.bucket,
                "region": moto_s3.region,
                "endpoint_url": moto_s3.endpoint,
                "access_key_id": moto_s3.access_key,
                "secret_access_key": moto_s3.secret_key,
            },
        },
    )
    assert moto_s3.secret_key not in json.dumps(store)
    yield moto_s3
    lab.api.delete(f"stores/{store['id']}/")


def test_parameters_and_inputs_from_the_command_line(lab: Lab, desk: Desk, bucket: S3Server) -> None:
    """Row 23: typed, repeated and pass-as arguments; inputs from S3 with a wildcard, http and `datum://`."""
    datum = lab.api.upload(lab.project, "photo.bin", b"\x00\x01photo")
    counter = desk.run(
        *("pre", "--adhoc", "--lr=0.5", "--n=1", "--n=2", "--label=it's", "--mode=thorough", "--fast=false"),
        f"--data=s3://{bucket.bucket}/sets/*.csv",
        f"--tree=s3://{bucket.bucket}/sets/**",
        f"--renamed=datum://{datum['id']}",
    )
    execution = lab.wait_counter(counter)
    report = report_of(lab.api, execution)
    assert report["argv"] == [
        *("--learning-rate=0.5", "--n=1", "--n=2", "--ratios=0.5;0.25", "--label=it's", "--mode=thorough"),
        "--speed=slow",
    ]
    assert "--learning-rate=0.5 --n=1 --n=2" in execution["interpolated_command"]
    assert report["parameters"] == {
        "lr": 0.5,
        "n": [1, 2],
        "ratios": [0.5, 0.25],
        "label": "it's",
        "mode": "thorough",
        "fast": False,
    }

    def sha256(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    found = report["inputs"]
    assert {name: found[name] for name in found if name.startswith(("data/", "renamed/"))} == {
        "data/a.csv": sha256(b"sets/a.csv"),
        "data/b.csv": sha256(b"sets/b.csv"),
        "renamed/fixed-name.bin": sha256(b"\x00\x01photo"),
    }
    tree = {name for name in found if name.startswith("tree/")}
    assert tree == {"tree/sets/a.csv", "tree/sets/b.csv", "tree/sets/skipped.txt", "tree/sets/sub/c.csv"}
    listed = report["inputs_json"]["renamed"]["files"][0]
    assert listed["uri"] == f"datum://{datum['id']}"
    assert listed["checksums"]["sha256"] == datum["sha256"]
    assert any(sha256(b"sets/a.csv") in line for line in lab.api.status_lines(execution))


def test_every_option_of_a_run_is_seen_everywhere(lab: Lab, desk: Desk) -> None:
    """Row 24: in `exec info`, in the API and in the container."""
    image = "slipway-test/python:bookworm" if lab.platform.runtime == "docker" else "any/image:7"
    if lab.platform.runtime == "docker":
        image = other_image()
    counter = desk.run(
        *("pre", "--adhoc", "-e", "local", "-i", image, "-v", "E2E_X=Y", "-v", "GREETING=good day"),
        *("--tag", "t1", "--tag", "t2", "-t", "A title", "--priority", "--time-limit", "1h"),
    )
    execution = lab.wait_counter(counter)
    assert execution["environment"]["slug"] == "local"
    assert execution["image"] == image
    assert execution["environment_variables"]["E2E_X"] == {"value": "Y", "secret": False}
    assert execution["tags"] == ["t1", "t2"]
    assert execution["title"] == "A title"
    assert execution["priority"] == 1
    assert execution["time_limit"] == 3600

    info = desk.vh("exec", "info", str(counter)).out
    for expected in (image, "A title", "E2E_X", "3600"):
        assert expected in info, info
    assert re.search(in_table("environment name", "This machine"), info), info
    shown = desk.json("exec", "info", str(counter))
    assert shown["tags"] == ["t1", "t2"]
    assert shown["priority"] == 1

    report = report_of(lab.api, execution)
    assert report["environment"]["E2E_X"] == "Y"
    assert report["environment"]["GREETING"] == "good day"
    assert report["environment"]["VH_JOB_ID"] == f"exec-{execution['id']}"
    assert report["environment"]["VH_EXECUTION_ID"] == execution["id"]
    assert report["environment"]["VH_PROJECT_ID"] == lab.project
    assert report["environment"]["PYTHONUNBUFFERED"] == "1"
    assert report["cwd"] == report["environment"]["VH_REPOSITORY_DIR"]
    assert report["input_folders"] == ["data", "renamed", "tree"]
    for name in ("execution", "inputs", "parameters", "runtime"):
        assert {f"{name}.json", f"{name}.yaml"} <= set(report["config_files"])
    ignored = [line for line in lab.api.status_lines(execution) if "ignores the image" in line]
    assert bool(ignored) == (lab.platform.runtime == "process")


def other_image() -> str:
    """Another name of the test image, so that it can be told from the one in the YAML."""
    name = "slipway-test/python:e2e"
    subprocess.run(["docker", "tag", "slipway-test/python:bookworm", name], check=True, timeout=30, capture_output=True)
    return name


def test_an_unknown_environment_is_a_field_error_with_a_hint(lab: Lab, desk: Desk) -> None:
    """Row 25."""
    before = lab.api.get("executions/", project=lab.project)["count"]
    answer = desk.vh("exec", "run", "quick", "--adhoc", "-e", "nope", code=1)
    assert "environment" in answer.err.lower()
    assert "'nope'" in answer.err
    assert "does_not_exist" in answer.err
    assert "vh environments" in answer.both
    assert lab.api.get("executions/", project=lab.project)["count"] == before


def test_remote_mode_without_login_in_an_empty_folder(lab: Lab, new_desk: Desk, tmp_path: Path) -> None:
    """Row 29, in a project of its own, because this mode takes the newest commit of all branches."""
    name = f"remote-{os.urandom(3).hex()}"
    checkout = new_checkout(tmp_path / "code", lab.remote.create(name), lab.mount)
    project = lab.linked_project(name, name)
    login = {"VALOHAI_HOST": lab.platform.url, "VALOHAI_TOKEN": lab.platform.credentials["token"]}
    remote = ("--project", project, "--project-mode", "remote")
    answer = new_desk.vh(*remote, "exec", "run", "quick", env=login)
    assert f"newest commit {checkout.head}" in answer.both
    created = re.search(r"Execution #(\d+) created", answer.both)
    assert created, answer.both
    execution = lab.api.wait_complete(f"{project}:{created.group(1)}")
    assert execution["commit"]["identifier"] == checkout.head
    assert new_desk.settings == {}
    assert not list(new_desk.folder.iterdir())

    time.sleep(1.1)  # git's times have whole seconds
    (checkout.folder / "valohai.yaml").unlink()
    checkout.commit("Remove the YAML")
    checkout.push()
    lab.api.post(f"projects/{project}/fetch/")
    refused = new_desk.vh(*remote, "exec", "run", "quick", env=login, code=1)
    assert "valohai.yaml" in refused.err


@pytest.mark.ssh
def test_a_private_repository_over_ssh_with_the_deploy_key(
    lab: Lab, git_ssh_server: GitSshServer, tmp_path: Path
) -> None:
    """Beside the rows: a key made for the project opens the repository; without it the fetch says what to do."""
    checkout = new_checkout(tmp_path / "code", git_ssh_server.create("private"), lab.mount)
    project = lab.api.post("projects/", {"name": f"ssh-{os.urandom(3).hex()}"})["id"]
    linked = lab.api.call("PUT", f"projects/{project}/repository/", json={"url": git_ssh_server.url("private")})
    assert linked.status_code == 200, linked.text
    key = linked.json()["deploy_public_key"]
    assert key.startswith("ssh-ed25519 ")

    refused = lab.api.post(f"projects/{project}/fetch/")
    assert refused["commits"] == []
    assert len(refused["errors"]) == 1
    assert "deploy key" in refused["errors"][0].lower()

    git_ssh_server.authorize(key)
    fetched = lab.api.post(f"projects/{project}/fetch/")
    assert fetched == {"commits": [{"ref": "main", "identifier": checkout.head}], "errors": []}
    execution = lab.api.run(project, "main", "quick")
    assert execution["commit"]["identifier"] == checkout.head
    lab.api.wait_complete(execution["id"])
