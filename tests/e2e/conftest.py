"""One platform per runtime for the whole session, a project with the sample repository, and desks to work at."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from slipway_testing.git_servers import GitHttpServer
from slipway_testing.vh import VhRunner, ensure_vh
from tests.e2e.support.api import Api, Json
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import PASSWORD, Lab
from tests.e2e.support.platform import Platform
from tests.e2e.support.repository import new_checkout


@pytest.fixture(scope="session", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform on one runtime, one process per service."""
    started = Platform(request.param, repositories=tmp_path_factory.mktemp("local-repositories"))
    failures_before = request.session.testsfailed
    try:
        started.start()
        yield started
    finally:
        code = started.stop()
        if request.session.testsfailed > failures_before:
            print(started.service_logs())
        started.delete()
    assert code == 0, f"slipway up ended with {code}"
    assert started.processes_left() == []


@pytest.fixture(scope="session")
def api(platform: Platform) -> Iterator[Api]:
    """The API as the first administrator."""
    with Api(platform.url, platform.credentials["token"]) as client:
        yield client


@pytest.fixture(scope="session")
def git_server(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHttpServer]:
    """Git over HTTP for the whole session."""
    server = GitHttpServer(tmp_path_factory.mktemp("git-server"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def lab(platform: Platform, api: Api, git_server: GitHttpServer, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The project that most tests use."""
    mount = tmp_path_factory.mktemp("mount")
    (mount / "shared.txt").write_text("from the mount\n")
    remote = git_server.create("sample")
    checkout = new_checkout(tmp_path_factory.mktemp("checkout") / "sample", remote, mount)
    name = f"lab-{uuid4().hex[:6]}"
    project = api.post("projects/", {"name": name, "description": "End-to-end tests"})["id"]
    api.get(f"projects/{project}/")
    linked = api.call("PUT", f"projects/{project}/repository/", json={"url": git_server.url("sample")})
    assert linked.status_code == 200, linked.text
    fetched = api.post(f"projects/{project}/fetch/")
    assert fetched == {"commits": [{"ref": "main", "identifier": checkout.head}], "errors": []}
    return Lab(platform, api, project, name, git_server, checkout, mount)


@pytest.fixture(scope="session")
def prepared_desk(lab: Lab, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk that is logged in and linked to the lab; tests take copies of it."""
    home = tmp_path_factory.mktemp("prepared-desk")
    (home / "config").mkdir()
    desk = Desk(VhRunner(ensure_vh(pytestconfig.rootpath), home), lab.checkout.folder)
    desk.vh("login", "--host", lab.platform.url, "--token", lab.platform.credentials["token"], "--yes")
    desk.vh("project", "link", lab.name, "--yes")
    return desk


@pytest.fixture
def desk(prepared_desk: Desk, tmp_path: Path) -> Desk:
    """vh, logged in and linked to the lab, in the lab's checkout. Do not change files there."""
    return prepared_desk.copy(tmp_path / "vh-home")


@pytest.fixture
def new_desk(prepared_desk: Desk, tmp_path: Path) -> Desk:
    """vh on a fresh machine, in an empty folder."""
    home = tmp_path / "new-home"
    folder = tmp_path / "new-folder"
    (home / "config").mkdir(parents=True)
    folder.mkdir()
    return Desk(VhRunner(prepared_desk.runner.venv, home), folder)


@pytest.fixture
def own_copy(desk: Desk, lab: Lab, tmp_path: Path) -> Desk:
    """vh, logged in and linked to the lab, in a copy of the checkout that the test may change."""
    folder = tmp_path / "sample"
    shutil.copytree(lab.checkout.folder, folder)
    own = desk.elsewhere(folder)
    own.vh("project", "link", lab.name, "--yes")
    return own


@pytest.fixture(scope="session")
def finished(lab: Lab) -> Json:
    """A complete execution of `pre` with an input, for tests that only look at it."""
    datum = lab.api.upload(lab.project, "numbers.csv", b"a,b\n1,2\n")
    created = lab.run("pre", inputs={"data": [f"datum://{datum['id']}"]}, parameters={"lr": 0.5}, tags=["seen"])
    return lab.api.wait_complete(created["id"])


@pytest.fixture(scope="session")
def stranger(platform: Platform) -> Iterator[Api]:
    """The API as a user who has nothing to do with the lab."""
    name = f"stranger-{uuid4().hex[:6]}"
    platform.add_user(name, PASSWORD)
    with Api(platform.url, None) as nobody:
        token = nobody.post("get-token/", {"username": name, "password": PASSWORD}, status=200)["token"]
    with Api(platform.url, token) as client:
        yield client
