"""The routers' image as it is shipped, made by the local Docker engine on the tests' base image."""

import os
import subprocess
from pathlib import Path

from slipway_testing.tools import TEST_IMAGE

ROUTER_IMAGE = "slipway-test/router:1"
_BUILD_SECONDS = 900.0


def router_image(root: Path) -> str:
    """Build it from a checkout; what has not changed is taken from the engine's cache. Raises `RuntimeError`."""
    network = os.environ.get("SLIPWAY_TEST_DOCKER_NETWORK", "bridge")
    command = [
        *("docker", "build", "--quiet", "--network", network, "--build-arg", f"BASE={TEST_IMAGE}"),
        *("-f", str(root / "deploy/docker/Dockerfile"), "--target", "router", "-t", ROUTER_IMAGE, str(root)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the routers' image was not built: {(done.stdout + done.stderr)[-4000:]}")
    return ROUTER_IMAGE
