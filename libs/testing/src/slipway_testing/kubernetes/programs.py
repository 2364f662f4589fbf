"""Where the cluster's programs are, and what is missing."""

import os
import re
import subprocess
from pathlib import Path

from slipway_testing.tools import TEST_IMAGE, find_tool

KUBECONFIG_VARIABLE = "SLIPWAY_TEST_KUBECONFIG"
CACHE_VARIABLE = "SLIPWAY_TEST_CACHE"
CNI_PLUGINS = Path("/usr/lib/cni")
_BUILD = Path("tests/cluster/setup")
_DEBIAN = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "docker": "docker.io",
}


def programs(root: Path) -> Path | None:
    """The folder with the Kubernetes programs that the tree names, whether it is there or not; None: it names none."""
    version = _version(root, "kubernetes", "k8s.io/kubernetes")
    return None if version is None else _cache() / "kubernetes" / version


def ingress_programs(root: Path) -> Path | None:
    """The folder with the ingress controller and the Gateway API's definitions, as `programs`."""
    version = _version(root, "traefik", "github.com/traefik/traefik/v3")
    return None if version is None else _cache() / "kubernetes" / f"traefik-{version}"


def keda_programs(root: Path) -> Path | None:
    """The folder with KEDA's operator and metrics server, as `programs`."""
    version = _version(root, "keda", "github.com/kedacore/keda/v2")
    return None if version is None else _cache() / "keda" / version


def keda_definitions(root: Path) -> Path | None:
    """The folder with the definitions of KEDA's objects, as `programs`."""
    found = keda_programs(root)
    return None if found is None else found.with_name(f"definitions-{found.name}")


def keda_problem(root: Path) -> str | None:
    """Why KEDA cannot be started; None when it can."""
    found = keda_programs(root)
    if found is not None and (found / "stamp").exists():
        return None
    return "KEDA is not built; tests/cluster/setup/build.sh keda does it (ten minutes of two processors, once)"


def _version(root: Path, folder: str, module: str) -> str | None:
    try:
        text = (root / _BUILD / folder / "go.mod").read_text()
    except FileNotFoundError:
        return None
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)(?: // indirect)?$", text, re.MULTILINE)
    return None if found is None else found[1]


def buildkit_image(root: Path) -> tuple[str, Path] | None:
    """The name of the image with BuildKit, and where it is saved; None when it was not built."""
    folder = _cache() / "buildkit" / (_version(root, "buildkit", "github.com/moby/buildkit") or "")
    try:
        return (folder / "name").read_text().strip(), folder / "image.tar"
    except FileNotFoundError:
        return None


def _cache() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE, "/var/cache/slipway-test"))


def kubernetes_problem(root: Path) -> str | None:
    """Why no cluster can be used by tests; None when one is named or can be started."""
    if os.environ.get(KUBECONFIG_VARIABLE):
        return None
    reason = _start_problem(root)
    if reason is None:
        return None
    return f"no cluster is named; set {KUBECONFIG_VARIABLE} to the kubeconfig of a cluster for tests, or {reason}"


def _start_problem(root: Path) -> str | None:
    if os.geteuid() != 0:
        return "run the tests as root, so that they can start one"
    needed = (programs(root), ingress_programs(root), keda_definitions(root))
    if any(one is None or not (one / "stamp").exists() for one in needed):
        return "build one with tests/cluster/setup/build.sh (it takes minutes, once)"
    missing = {package for name, package in _DEBIAN.items() if not find_tool(name)}
    if not (CNI_PLUGINS / "bridge").exists():
        missing.add("containernetworking-plugins")
    if missing:
        return f"apt-get install {' '.join(sorted(missing))}"
    image = subprocess.run(["docker", "image", "inspect", TEST_IMAGE], capture_output=True, timeout=20, check=False)
    return None if image.returncode == 0 else f"give the Docker engine the image {TEST_IMAGE}; .ci/install makes it"
