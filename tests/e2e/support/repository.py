"""The sample project as a git repository with a remote."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "project"
GIT_SECONDS = 60.0


def git(folder: Path, *args: str) -> str:
    """Run git without the machine's settings and give what it printed."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _PERSON.items()},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    done = subprocess.run(
        ["git", *args],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


_PERSON = {"NAME": "Tester", "EMAIL": "tester@example.org"}


@dataclass(frozen=True)
class Checkout:
    """A working copy with a remote `origin`."""

    folder: Path

    @property
    def head(self) -> str:
        """The commit that is checked out."""
        return git(self.folder, "rev-parse", "HEAD")

    def commit(self, message: str) -> str:
        """Commit everything and give the new commit."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", message)
        return self.head

    def push(self, branch: str = "main") -> None:
        """Push HEAD to a branch of the remote."""
        git(self.folder, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")


def new_checkout(folder: Path, remote: Path, mount: Path) -> Checkout:
    """Copy the sample project, commit and push it. `remote` is a bare repository, `mount` the mounted folder."""
    copy_project(folder, mount)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "remote", "add", "origin", str(remote))
    checkout = Checkout(folder)
    checkout.commit("Add the sample project")
    checkout.push()
    return checkout


def copy_project(folder: Path, mount: Path) -> None:
    """The files of the sample project alone."""
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    config = folder / "valohai.yaml"
    config.write_text(config.read_text().replace("@MOUNT@", str(mount)))
