"""Repositories and packages to test with."""

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

YAML = """\
- step:
    name: train
    image: python:3.12
    command: python train.py {parameters}
    parameters:
      - name: lr
        type: float
        default: 0.1
"""


class Repository:
    """A git repository on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = 1_700_000_000
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *args: str) -> str:
        stamp = f"{self._time} +0000"
        names = {
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@x",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@x",
        }
        times = {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp, "GIT_CONFIG_GLOBAL": "/dev/null"}
        env = {**os.environ, **names, **times}
        return subprocess.run(
            ["git", *args], cwd=self.path, env=env, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message: str = "change", **files: str | None) -> str:
        for name, content in files.items():
            path = self.path / name.replace("__", ".")
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_text(content)
        self._time += 60
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(settings) -> Repository:
    made = Repository(settings.git.allow_local_paths[0] / "lab")
    made.commit("first", valohai__yaml=YAML, train__py="print('hi')\n")
    return made


@pytest.fixture
async def linked(me, project, repository) -> dict:
    """The project, with the repository linked by its local path."""
    answer = await me.put(f"{project['url']}repository/", json={"url": str(repository.path)})
    assert answer.status_code == 200, answer.text
    return project


def member(name: str, content: bytes = b"", **changes) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a package."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def package(*members: tuple[tarfile.TarInfo, bytes], yaml: str | None = YAML) -> bytes:
    """A gzip-compressed tar."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        if yaml is not None:
            info, content = member("valohai.yaml", yaml.encode())
            archive.addfile(info, io.BytesIO(content))
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


@pytest.fixture
def make_package():
    return package


@pytest.fixture
def make_member():
    return member
