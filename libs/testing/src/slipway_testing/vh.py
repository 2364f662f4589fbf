"""The unmodified `vh` command from PyPI in a venv of its own, for end-to-end tests."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = ("valohai-cli==0.37.0", "valohai-utils==0.8.0")
INSTALL_SECONDS = 300.0


def vh_directory(root: Path) -> Path:
    """The cached venv of these versions inside the checkout."""
    key = "-".join(package.replace("==", "-") for package in PACKAGES)
    return root / ".cache" / "vh" / f"{key}-py{sys.version_info.major}{sys.version_info.minor}"


def ensure_vh(root: Path) -> Path:
    """Make the venv unless it is there, and give its folder. Raises RuntimeError with the installer's last words."""
    target = vh_directory(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = target / ".complete"
        if ready.exists():
            return target
        shutil.rmtree(target, ignore_errors=True)
        beside = Path(sys.executable).parent / "uv"
        uv = str(beside) if beside.exists() else "uv"
        python = str(target / "bin" / "python")
        for command in (
            [uv, "venv", "--quiet", "--python", sys.executable, str(target)],
            [uv, "pip", "install", "--quiet", "--python", python, *PACKAGES],
        ):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"{' '.join(command[:3])}: {error.stderr.strip()[-300:]}") from error
            except (OSError, subprocess.SubprocessError) as error:
                raise RuntimeError(str(error)) from error
        ready.touch()
    return target


def vh_problem(root: Path) -> str | None:
    """Why vh cannot be used here, or None."""
    try:
        ensure_vh(root)
    except RuntimeError as error:
        return f"vh cannot be installed ({' '.join(str(error).split())}); check the way to the package index"
    return None


@dataclass(frozen=True)
class VhRunner:
    """Runs `vh` as a user on a fresh machine would: own HOME, own configuration, nobody at the keyboard."""

    venv: Path
    home: Path

    @property
    def python(self) -> Path:
        """Interpreter of the venv, which has valohai-utils."""
        return self.venv / "bin" / "python"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a run. Nothing of the caller's VALOHAI_* or VH_* variables reaches it."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("VALOHAI_", "VH_", "SLIPWAY_", "PYTHON"))
        }
        return {
            **kept,
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.home),
            "VALOHAI_CONFIG_DIR": str(self.home / "config"),
            "LC_ALL": "C.UTF-8",
            **(extra or {}),
        }

    def run(
        self,
        *args: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run `vh ARGS` to its end and give exit code, stdout and stderr. Raises subprocess.TimeoutExpired."""
        return self._execute([str(self.venv / "bin" / "vh"), *args], cwd, env, timeout)

    def run_python(
        self,
        *args: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run the venv's Python, for scripts that use valohai-utils."""
        return self._execute([str(self.python), *args], cwd, env, timeout)

    def _execute(
        self, command: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd or self.home,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture
def vh(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> VhRunner:
    """The vh command with a HOME of its own. Mark tests that use it with `@pytest.mark.vh`."""
    home = tmp_path_factory.mktemp("vh-home")
    (home / "config").mkdir()
    return VhRunner(ensure_vh(pytestconfig.rootpath), home)
