"""Prints what the packages with these pyproject.toml files need from the package index, one requirement a line."""

import sys
import tomllib
from pathlib import Path

needed: set[str] = set()
for name in sys.argv[1:]:
    needed.update(tomllib.loads(Path(name).read_text())["project"].get("dependencies", ()))
sys.stdout.write("\n".join(sorted(one for one in needed if not one.startswith("slipway-"))) + "\n")
