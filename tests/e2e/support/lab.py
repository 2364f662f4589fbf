"""The project that most tests share."""

from dataclasses import dataclass
from pathlib import Path

from slipway_testing.git_servers import GitHttpServer
from tests.e2e.support.api import Api, Json
from tests.e2e.support.platform import Platform
from tests.e2e.support.repository import Checkout

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Lab:
    """A project with a git repository, and its administrator."""

    platform: Platform
    api: Api
    project: str
    name: str
    remote: GitHttpServer
    checkout: Checkout
    mount: Path

    def run(self, step: str, commit: str | None = None, **more: object) -> Json:
        """Create an execution of a step of the checked-out commit."""
        return self.api.run(self.project, commit or self.checkout.head, step, **more)

    def linked_project(self, name: str, repository: str, *, fetch: bool = True) -> str:
        """Make another project with a repository of the same git server; gives its id."""
        project = str(self.api.post("projects/", {"name": name})["id"])
        linked = self.api.call("PUT", f"projects/{project}/repository/", json={"url": self.remote.url(repository)})
        assert linked.status_code == 200, linked.text
        if fetch:
            assert self.api.post(f"projects/{project}/fetch/")["errors"] == []
        return project

    def by_counter(self, counter: int) -> Json:
        """The execution with this number."""
        return self.api.execution(f"{self.project}:{counter}")

    def wait_counter(self, counter: int, *statuses: str, timeout: float = 90.0) -> Json:
        """Wait until the execution with this number has one of the statuses; without any, until it is complete."""
        return self.api.wait(f"{self.project}:{counter}", statuses or ("complete",), timeout)
