"""Where `slipway up` keeps things on disk."""

import os
import secrets
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
    def git_cache(self) -> Path:
        """Mirrors of git repositories; may be deleted."""
        return self.root / "git"

    @property
    def worker(self) -> Path:
        """Attempts, spool and cache of the local worker."""
        return self.root / "worker"

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

    def prepare(self) -> None:
        """Make the folders; only those of this home, and nothing above it."""
        for folder in (self.root, self.keys, self.trusted, self.store, self.worker, self.uploads, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def secret(self, name: str) -> Path:
        """The file of a random secret of 64 hex digits, made at first use."""
        file = self.keys / name
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32))
        return file
