"""Programs and images that tests find on this machine."""

import os
import shutil

TEST_IMAGE = "slipway-test/python:bookworm"
"""Debian with Python, made by `.ci/install`."""


def find_tool(name: str) -> str | None:
    """Path of a program, looking into the administrator's folders too."""
    places = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin", "/usr/local/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))
