"""Where things are broken: a platform, its administrator, and a project with the program."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from slipway_testing.git_servers import GitHttpServer
from tests.chaos.support.site import Site
from tests.e2e.support.api import Api, Json
from tests.e2e.support.platform import Platform
from tests.e2e.support.repository import Checkout, git

PROJECT = Path(__file__).parents[1] / "project"


@dataclass(frozen=True)
class Ground:
    """A platform with a project whose runs do what their parameters say."""

    site: Site
    api: Api
    project: str
    commit: str

    @property
    def platform(self) -> Platform:
        """The platform."""
        return self.site.platform

    def run(self, step: str, **parameters: Any) -> Json:
        """Create an execution of the program."""
        return self.api.run(self.project, self.commit, step, parameters=parameters)


def linked_project(api: Api, git_server: GitHttpServer, folder: Path) -> tuple[str, str]:
    """Make a project with the program; gives its id and the commit."""
    remote = git_server.create("storm")
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "remote", "add", "origin", str(remote))
    checkout = Checkout(folder)
    checkout.commit("Add the program")
    checkout.push()
    project = str(api.post("projects/", {"name": f"storm-{uuid4().hex[:6]}"})["id"])
    linked = api.call("PUT", f"projects/{project}/repository/", json={"url": git_server.url("storm")})
    assert linked.status_code == 200, linked.text
    assert api.post(f"projects/{project}/fetch/")["errors"] == []
    return project, checkout.head
