"""Where `slipway up` keeps things on disk."""

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folder of one installation (`--home`, `SLIPWAY_HOME`, default `.slipway`)."""

    root: Path

    @property
    def keys(self) -> Path:
        """Private keys, peppers, passwords; mode 0700."""
        return self.root / "keys"

    @property
    def trusted(self) -> Path:
        """Public keys of the services."""
        return self.keys / "trusted"

    @property
    def store(self) -> Path:
        """The local object store: code, data, logs of executions."""
        return self.root / "store"

    @property
    def older_secret_keys(self) -> Path:
        """Keys of secrets that are only read with."""
        return self.keys / "older-secret-keys"

    @property
    def git_cache(self) -> Path:
        """Mirrors of git repositories; may be deleted."""
        return self.root / "git"

    @property
    def worker(self) -> Path:
        """Attempts, spool and cache of the local worker."""
        return self.root / "worker"

    @property
    def serving(self) -> Path:
        """What endpoints are served from, and the router's state."""
        return self.root / "serving"

    @property
    def uploads(self) -> Path:
        """Request bodies on their way into the store."""
        return self.root / "uploads"

    @property
    def logs(self) -> Path:
        """What the platform itself logs."""
        return self.root / "logs"

    @property
    def credentials(self) -> Path:
        """How to log in, for people and for `slipway demo`."""
        return self.root / "credentials.json"

    @property
    def pid_file(self) -> Path:
        """Process id of the running `slipway up`."""
        return self.root / "up.pid"

    @property
    def in_use(self) -> bool:
        """Whether a platform runs on this home: it holds a lock that ends with its process, however that ends."""
        if not self.pid_file.exists():
            return False
        with self.pid_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    @property
    def environments(self) -> Path:
        """Settings of each service as environment variables, for commands that an operator gives to one service."""
        return self.root / "environments"

    def save_environment(self, service: str, variables: Mapping[str, str]) -> None:
        """Keep a service's settings; they hold passwords, hence mode 0600."""
        file = self.environments / f"{service}.json"
        temporary = file.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            json.dump(variables, handle)
        temporary.replace(file)

    def load_environment(self, service: str) -> dict[str, str] | None:
        """The settings that the service was last started with; None when it never was."""
        file = self.environments / f"{service}.json"
        if not file.exists():
            return None
        variables: dict[str, str] = json.loads(file.read_text())
        return variables

    def prepare(self) -> None:
        """Make the folders; only those of this home, and nothing above it."""
        for folder in (
            self.root,
            self.keys,
            self.trusted,
            self.store,
            self.worker,
            self.uploads,
            self.logs,
            self.environments,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def secret(self, name: str) -> Path:
        """The file of a random secret of 64 hex digits, made at first use."""
        file = self.keys / name
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32))
        return file
