"""Bad input: each has a clear answer in the contract's error shape, and leaves nothing half-written."""

import hashlib
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from slipway_testing.git_servers import GitSshServer
from tests.e2e.support.api import Api, Json, field_codes
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import Lab
from tests.e2e.support.packages import YAML, link, member, package
from tests.e2e.support.registry import RefusingRegistry
from tests.e2e.support.repository import Checkout, git

pytestmark = pytest.mark.vh

ALL_STRICT: dict[str, Any] = {
    "parameters": {"needed": 3},
    "inputs": {"data": ["https://example.org/never-fetched.csv"]},
    "environment_variables": {"NEEDED_VARIABLE": "set"},
}


@contextmanager
def nothing_created(lab: Lab) -> Iterator[None]:
    """No execution, no object in the code store and no file in the upload folder may come of what happens inside."""

    def state() -> tuple[int, set[str]]:
        count = lab.api.get("executions/", project=lab.project, limit=1)["count"]
        folders = [lab.platform.home / "store" / "code", lab.platform.home / "uploads"]
        files = {str(file) for folder in folders if folder.exists() for file in folder.rglob("*") if file.is_file()}
        return count, files

    before = state()
    yield
    assert state() == before


def create(lab: Lab, step: str, **more: Any) -> Any:
    """POST an execution and give the raw answer."""
    body = {"project": lab.project, "commit": lab.checkout.head, "step": step, **more}
    return lab.api.call("POST", "executions/", json=body)


# Tokens and access


@pytest.mark.parametrize("header", [None, "Token wrong", "Token", "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc="])
def test_a_wrong_token(lab: Lab, header: str | None) -> None:
    """401 with the scheme to use."""
    with Api(lab.platform.url, None) as nobody:
        answer = nobody.call("GET", "projects/", headers={"Authorization": header} if header is not None else {})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Token"
    assert answer.json().keys() == {"message", "code"}


def test_a_wrong_token_of_vh(lab: Lab, new_desk: Desk) -> None:
    """vh renders our words, and stores nothing."""
    answer = new_desk.vh("login", "--host", lab.platform.url, "--token", "wrong", "-y", code=1)
    assert "token" in answer.err.lower()
    assert "token" not in new_desk.settings


def test_a_project_of_somebody_else(lab: Lab, stranger: Api, finished: Json, new_desk: Desk) -> None:
    """Nothing tells whether it exists."""
    datum = next(iter(lab.api.outputs(finished).values()))
    for path in (
        f"projects/{lab.project}/",
        f"projects/{lab.project}/commits/",
        f"projects/{lab.project}/repository/",
        f"executions/{finished['id']}/",
        f"executions/{lab.project}:{finished['counter']}/",
        f"executions/{finished['id']}/events/",
        f"executions/{finished['id']}/status-events/",
        f"executions/{finished['id']}/log/",
        f"data/{datum['id']}/",
        f"data/{datum['id']}/download/",
        f"commits/{lab.checkout.head}/",
    ):
        answer = stranger.call("GET", path)
        assert answer.status_code == 404, path
        assert answer.json().keys() == {"message", "code"}, path
    for path in (f"executions/{finished['id']}/stop/", f"executions/{finished['id']}/copy/"):
        assert stranger.call("POST", path).status_code == 404, path
    assert stranger.call("POST", f"projects/{lab.project}/fetch/").status_code == 404
    assert stranger.call("DELETE", f"projects/{lab.project}/").status_code == 404
    for path in ("executions/", "data/", "commits/"):
        listed = stranger.call("GET", path, params={"project": lab.project})
        assert listed.status_code in (200, 404), path
        assert lab.project not in listed.text, path
    assert lab.project not in stranger.call("GET", "projects/").text
    with nothing_created(lab):
        body = {"project": lab.project, "commit": lab.checkout.head, "step": "quick"}
        assert field_codes(stranger.call("POST", "executions/", json=body), "project") == ["does_not_exist"]
    login = {"VALOHAI_HOST": lab.platform.url, "VALOHAI_TOKEN": stranger.token or ""}
    refused = new_desk.vh("--project", lab.project, "--project-mode", "remote", "exec", "list", env=login, code=1)
    assert f"No project was found with the ID {lab.project}" in refused.both


# What an execution asks for


def test_an_unknown_step(lab: Lab) -> None:
    """The answer lists the steps that there are."""
    with nothing_created(lab):
        answer = create(lab, "no-such-step")
    assert field_codes(answer, "step") == ["does_not_exist"]
    assert "quick" in answer.json()["step"][0]["message"]


@pytest.mark.parametrize(
    ("parameters", "mentioned"),
    [
        ({"needed": "three"}, "three"),
        ({"needed": 2.5}, "2.5"),
        ({"needed": 11}, "10"),
        ({"needed": 0}, "1"),
        ({"needed": [1, 2]}, "needed"),
        ({"needed": {"a": 1}}, "needed"),
        ({"needed": 3, "unknown": 1}, "unknown"),
    ],
)
def test_a_parameter_that_does_not_fit(lab: Lab, parameters: dict[str, Any], mentioned: str) -> None:
    """Wrong type, out of range, or not declared."""
    with nothing_created(lab):
        answer = create(lab, "strict", **{**ALL_STRICT, "parameters": parameters})
    field_codes(answer, "parameters")
    assert mentioned in answer.json()["parameters"][0]["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parameters", {}),
        ("parameters", {"needed": None}),
        ("inputs", {}),
        ("inputs", {"data": []}),
        ("environment_variables", {}),
    ],
)
def test_something_required_is_missing(lab: Lab, field: str, value: dict[str, Any]) -> None:
    """The client does not check it; we do."""
    with nothing_created(lab):
        answer = create(lab, "strict", **{**ALL_STRICT, field: value})
    assert field_codes(answer, field) == ["required"]


def test_everything_that_is_wrong_is_told_at_once_through_vh(lab: Lab, desk: Desk) -> None:
    """One answer, three fields, as vh prints it; the client itself asks for the input only."""
    with nothing_created(lab):
        answer = desk.vh("exec", "run", "strict", f"--data=datum://{uuid4()}", code=1)
    for words in ("needed: a value is required", "data: datum://", "NEEDED_VARIABLE: step 'strict' requires a value"):
        assert words in answer.err, answer.err


def test_a_parameter_out_of_range_through_vh(lab: Lab, desk: Desk) -> None:
    """0 <= lr <= 1."""
    with nothing_created(lab):
        answer = desk.vh("exec", "run", "pre", "--lr=7.5", code=1)
    assert "lr" in answer.err
    assert "7.5" in answer.err or "maximum" in answer.err.lower() or "greater" in answer.err.lower()


@pytest.mark.parametrize(
    "uri",
    [
        f"datum://{UUID(int=1)}",
        "datum://no-such-alias",
        "s3://no-such-bucket-e2e/file.csv",
        "ftp://example.org/file.csv",
        "just words",
        "file:///etc/passwd",
    ],
)
def test_an_input_that_cannot_be_resolved(lab: Lab, uri: str) -> None:
    """Refused at creation where that can be known."""
    with nothing_created(lab):
        answer = create(lab, "pre", inputs={"data": [uri]})
    field_codes(answer, "inputs")
    assert answer.json()["inputs"][0]["message"].startswith("data: ")


def test_an_input_that_turns_out_to_be_absent(lab: Lab) -> None:
    """Known only to the worker: the run ends with the reason and the address."""
    missing = f"{lab.platform.url}/api/v0/no-such-file.csv"
    run = lab.run("pre", inputs={"data": [missing]})
    ended = lab.api.wait(run["id"], {"error"})
    assert ended["end_reason"] == "input_failed"
    assert "was not found" in ended["end_message"]
    assert any(missing in line for line in lab.api.status_lines(ended))
    assert lab.api.outputs(ended) == {}


def test_an_unknown_commit(lab: Lab) -> None:
    """With the way out."""
    with nothing_created(lab):
        body = {"project": lab.project, "commit": "0" * 40, "step": "quick"}
        answer = lab.api.call("POST", "executions/", json=body)
    assert field_codes(answer, "commit") == ["does_not_exist"]


# Code


@pytest.fixture
def branch(lab: Lab, tmp_path: Path) -> Checkout:
    """A clone whose `main` the test may change and push elsewhere."""
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", git(lab.checkout.folder, "remote", "get-url", "origin"), str(folder))
    return Checkout(folder)


def fetched(lab: Lab, checkout: Checkout, message: str) -> str:
    """Commit, push to a new branch and fetch; gives the commit."""
    commit = checkout.commit(message)
    checkout.push(f"bad-{os.urandom(3).hex()}")
    assert lab.api.post(f"projects/{lab.project}/fetch/")["errors"] == []
    return commit


def test_a_commit_without_yaml(lab: Lab, branch: Checkout) -> None:
    """Fetching it is fine; running it is not."""
    (branch.folder / "valohai.yaml").unlink()
    commit = fetched(lab, branch, "Remove the YAML")
    with nothing_created(lab):
        answer = lab.api.call("POST", "executions/", json={"project": lab.project, "commit": commit, "step": "quick"})
    field_codes(answer, "commit")
    assert "valohai.yaml" in answer.json()["commit"][0]["message"]


def test_yaml_that_does_not_parse(lab: Lab, branch: Checkout) -> None:
    """The answer names the line and gives a hint."""
    (branch.folder / "valohai.yaml").write_text("- step:\n    name: broken\n    image: [unclosed\n    command: echo\n")
    commit = fetched(lab, branch, "Break the YAML")
    with nothing_created(lab):
        answer = lab.api.call("POST", "executions/", json={"project": lab.project, "commit": commit, "step": "quick"})
    assert field_codes(answer, "commit") == ["invalid_config"]
    message = answer.json()["commit"][0]["message"]
    assert "line 4" in message or "line 3" in message
    assert "Hint:" in message


def test_yaml_that_does_not_parse_through_vh(lab: Lab, own_copy: Desk) -> None:
    """As an ad-hoc package, with the client's own check switched off."""
    config = own_copy.folder / "valohai.yaml"
    good = config.read_text()
    config.write_text(good + "\n- step:\n    name: broken\n    nonsense: true\n")
    with nothing_created(lab):
        answer = own_copy.vh("exec", "run", "quick", "--adhoc", "--no-validate-adhoc", code=None)
    assert answer.code != 0
    assert "valohai.yaml" in answer.both


def send(lab: Lab, content: bytes, **fields: str) -> Any:
    """Upload a package as vh does."""
    return lab.api.call(
        "POST",
        f"projects/{lab.project}/import-package/",
        files={"data": ("data.tgz", content, "application/gzip")},
        data=fields,
    )


def test_a_good_package_is_taken(lab: Lab) -> None:
    """So that the refusals below are not for another reason."""
    content = package(member("fine.txt"), member("sub/folder/fine.txt"), link("sub/inside", "folder/fine.txt"))
    answer = send(lab, content, sha256=hashlib.sha256(content).hexdigest(), yaml_path="valohai.yaml")
    assert answer.status_code == 201, answer.text
    assert answer.json()["identifier"] == f"~{hashlib.sha256(content).hexdigest()}"
    assert send(lab, content).json()["id"] == answer.json()["id"]


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.txt"),
        member("sub/../../outside.txt"),
        member("/etc/outside.txt"),
        link("passwd", "/etc/passwd"),
        link("up", "../outside"),
        link("sub/up", "../../outside"),
        link("hard", "../outside", tarfile.LNKTYPE),
        link("absolute", "/etc/shadow", tarfile.LNKTYPE),
        link("device", "", tarfile.CHRTYPE),
        link("pipe", "", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad[0].name}{bad[0].linkname and ' to '}{bad[0].linkname}",
)
def test_a_package_whose_members_leave_the_tree(lab: Lab, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    """The member is named; nothing is kept."""
    content = package(member("fine.txt"), bad)
    with nothing_created(lab):
        answer = send(lab, content)
    assert field_codes(answer, "data") == ["unsafe_member"]
    assert bad[0].name in answer.json()["data"][0]["message"]
    known = lab.api.call("GET", f"commits/~{hashlib.sha256(content).hexdigest()}/", params={"project": lab.project})
    assert known.status_code == 404


def test_a_package_through_a_link(lab: Lab) -> None:
    """A link that stays inside, and a member that would be written through it."""
    with nothing_created(lab):
        answer = send(lab, package(link("sub", "."), member("sub/file.txt")))
    assert field_codes(answer, "data") == ["unsafe_member"]


@pytest.mark.parametrize("content", [package(member("file.bin", os.urandom(50_000)))[:-30_000], b"", b"no archive"])
def test_a_truncated_package(lab: Lab, content: bytes) -> None:
    """Says so."""
    with nothing_created(lab):
        answer = send(lab, content)
    assert field_codes(answer, "data") == ["invalid_package"]


def test_a_request_that_ends_early(lab: Lab) -> None:
    """The multipart body lacks its end."""
    head = b'--b\r\nContent-Disposition: form-data; name="data"; filename="data.tgz"\r\n\r\n'
    with nothing_created(lab):
        answer = lab.api.call(
            "POST",
            f"projects/{lab.project}/import-package/",
            content=head + package()[:100],
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
    field_codes(answer, "data")


def test_a_package_with_the_wrong_hash(lab: Lab) -> None:
    """What arrived is not what was sent."""
    with nothing_created(lab):
        answer = send(lab, package(member("hash.txt", os.urandom(8))), sha256="0" * 64)
    assert field_codes(answer, "sha256") == ["hash_mismatch"]


def test_a_package_without_its_yaml(lab: Lab) -> None:
    """Absent, elsewhere, or outside of the package."""
    with nothing_created(lab):
        field_codes(send(lab, package(member("a.txt"), yaml=None)), "yaml_path")
        field_codes(send(lab, package(member("b.txt")), yaml_path="sub/valohai.yaml"), "yaml_path")
        field_codes(send(lab, package(member("c.txt")), yaml_path="../valohai.yaml"), "yaml_path")
        broken = send(lab, package(member("d.txt"), yaml=YAML + b"  broken: [\n"))
    assert field_codes(broken, "yaml_path") == ["invalid_config"]
    assert "line" in broken.json()["yaml_path"][0]["message"]


# Repositories


def repository_problem(lab: Lab, url: str, **more: str) -> str:
    """Link a repository to a new project, fetch, and give the one problem that is reported."""
    project = lab.api.post("projects/", {"name": f"bad-{os.urandom(4).hex()}"})["id"]
    linked = lab.api.call("PUT", f"projects/{project}/repository/", json={"url": url, **more})
    assert linked.status_code == 200, linked.text
    found = lab.api.post(f"projects/{project}/fetch/")
    assert found["commits"] == []
    assert len(found["errors"]) == 1
    assert lab.api.get(f"projects/{project}/commits/") == []
    return str(found["errors"][0])


def test_a_repository_that_cannot_be_reached(lab: Lab, free_port: int) -> None:
    """Nobody listens; and nothing of that name is there."""
    began = time.monotonic()
    message = repository_problem(lab, f"http://127.0.0.1:{free_port}/none.git")
    assert len(message) > 20
    assert time.monotonic() - began < 20
    assert repository_problem(lab, lab.remote.url("no-such-repository"))


def test_a_repository_that_refuses_the_token(lab: Lab) -> None:
    """The token itself is never shown."""
    lab.remote.create(f"closed-{os.urandom(3).hex()}")
    name = next(folder.stem for folder in lab.remote.root.iterdir() if folder.name.startswith("closed-"))
    lab.remote.token = "the-right-token"
    try:
        message = repository_problem(lab, lab.remote.url(name), token="the-wrong-token")
    finally:
        lab.remote.token = None
    assert "the-wrong-token" not in message
    assert "token" in message.lower()


@pytest.mark.ssh
def test_a_repository_that_refuses_the_key(lab: Lab, git_ssh_server: GitSshServer) -> None:
    """Says which key it wants."""
    git_ssh_server.create("closed")
    assert "deploy key" in repository_problem(lab, git_ssh_server.url("closed")).lower()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/etc",
        "ext::sh -c touch% /tmp/owned",
        "https://user:secret@example.org/x.git",
        "ftp://example.org/x.git",
        "-oProxyCommand=x",
        "http://169.254.169.254/latest",
    ],
)
def test_an_address_that_is_not_taken(lab: Lab, url: str) -> None:
    """Refused when it is linked, or, where the network decides, when it is fetched."""
    project = lab.api.post("projects/", {"name": f"bad-{os.urandom(4).hex()}"})["id"]
    answer = lab.api.call("PUT", f"projects/{project}/repository/", json={"url": url})
    if answer.status_code == 200:
        found = lab.api.post(f"projects/{project}/fetch/")
        assert (found["commits"], len(found["errors"])) == ([], 1)
        return
    field_codes(answer, "url")
    assert lab.api.call("GET", f"projects/{project}/repository/").status_code == 404


def test_fetching_without_a_repository(lab: Lab) -> None:
    """Says how to link one."""
    project = lab.api.post("projects/", {"name": f"bad-{os.urandom(4).hex()}"})["id"]
    assert field_codes(lab.api.call("POST", f"projects/{project}/fetch/"), "repository") == ["required"]


# Images


@pytest.fixture
def registry() -> Iterator[RefusingRegistry]:
    """A registry that has nothing to give."""
    server = RefusingRegistry()
    yield server
    server.close()


@pytest.mark.parametrize(("name", "reason"), [("absent/image:1", "image_missing"), ("denied/image:1", "image_denied")])
def test_an_image_that_cannot_be_had(lab: Lab, registry: RefusingRegistry, name: str, reason: str) -> None:
    """Docker: the run ends with the reason. The process runtime has no images and runs all the same."""
    image = registry.image(name)
    run = lab.run("quick", image=image)
    if lab.platform.runtime == "process":
        assert lab.api.wait_complete(run["id"])["image"] == image
        return
    ended = lab.api.wait(run["id"], {"error"})
    assert ended["end_reason"] == reason
    assert image in str(ended["end_message"]) + " ".join(lab.api.status_lines(ended))
    assert lab.api.outputs(ended) == {}


def test_an_image_name_that_is_none(lab: Lab) -> None:
    """Known without asking a registry."""
    with nothing_created(lab):
        field_codes(create(lab, "quick", image="two words"), "image")
