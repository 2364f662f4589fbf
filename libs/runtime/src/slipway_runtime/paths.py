"""Where a run finds its files (contract 3.1)."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

CONTAINER_ROOT: Final = PurePosixPath("/valohai")


@dataclass(frozen=True)
class ContainerPaths:
    """The four directories as the run sees them: below `/valohai`, or below the attempt where nothing is mounted."""

    root: PurePosixPath = CONTAINER_ROOT

    @property
    def repository(self) -> PurePosixPath:
        """The commit's files; commands start here."""
        return self.root / "repository"

    @property
    def inputs(self) -> PurePosixPath:
        """One directory per declared input."""
        return self.root / "inputs"

    @property
    def outputs(self) -> PurePosixPath:
        """What is written here is uploaded."""
        return self.root / "outputs"

    @property
    def config(self) -> PurePosixPath:
        """The configuration files of contract 3.4 to 3.7."""
        return self.root / "config"
