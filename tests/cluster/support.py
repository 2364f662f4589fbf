"""What the fixtures of this folder give."""

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import yaml

from slipway_builder.targets.kubernetes.checking import check_cluster
from slipway_builder.targets.kubernetes.client import ClusterApi
from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_testing.kubernetes.fixtures import Kubectl

BUILDS = Path("deploy/kubernetes/builds.yaml")


class TargetSettings(Protocol):
    """Makes settings of a target in the test's namespace."""

    def __call__(self, **changes: object) -> KubernetesTargetSettings:
        """With these changes."""
        ...


_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "{0}"\nbackend-path = ["."]\n'
_BACKEND = """
import os, platform, zipfile
NAME = "native-1.0-py3-none-" + "linux_" + platform.machine() + ".whl"
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(directory, NAME), "w") as wheel:
        wheel.writestr("native.py", "USER = %r" % os.getuid())
        about = "native-1.0.dist-info/"
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\\nName: native\\nVersion: 1.0\\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: %s\\n" % NAME[11:-4])
        wheel.writestr(about + "RECORD", "")
    return NAME
"""
NATIVE = {
    "requirements.txt": b"--no-index\n./native\n",
    "native/pyproject.toml": _PROJECT.format("backend").encode(),
    "native/backend.py": _BACKEND.encode(),
    "serve.sh": b"exec python3 -m http.server 8000\n",
}
"""A package that must be built on the base: it has commands to run, and a result for one platform alone."""


class Builds:
    """The namespace for builds, as the shipped file makes it, and an account with its rights alone."""

    def __init__(self, kubectl: Kubectl, image: str) -> None:
        self._kubectl = kubectl
        self.image = image
        self.name = f"slipway-builds-{uuid4().hex[:12]}"

    def apply(self, leave_out: str = "") -> None:
        """Apply the file, without the rules for one kind of objects."""
        text = BUILDS.read_text().replace("slipway-builds", self.name)
        made = list(yaml.safe_load_all(text.replace("namespace: slipway-endpoints", f"namespace: {self.name}")))
        for one in made:
            if one["kind"] == "Role":
                one["rules"] = [rule for rule in one["rules"] if leave_out not in rule["resources"]]
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "slipway", "namespace": self.name},
        }
        for manifest in (*made, account):
            self._kubectl.apply(manifest, namespace=self.name)

    def settings(self, **builds: Any) -> KubernetesTargetSettings:
        """A target that uses the account."""
        token = self._kubectl("create", "token", "slipway", "-n", self.name).strip()
        content = yaml.safe_load(self._kubectl.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": token}
        given = {"namespace": self.name, "image": self.image, **builds}
        return KubernetesTargetSettings.model_validate(
            {"namespace": self.name, "kubeconfig": json.dumps(content), "builds": given}
        )

    async def problems(self) -> dict[str, str]:
        """What the connection test finds wrong with builds."""
        settings = self.settings()
        assert settings.kubeconfig is not None
        api = ClusterApi(settings.kubeconfig.get_secret_value(), None, 10)
        try:
            checks = await check_cluster(api, settings)
        finally:
            await api.aclose()
        return {one.name: one.message for one in checks if one.name.startswith("builds: ") and not one.ok}

    def objects(self) -> list[str]:
        """What builds have left."""
        found = self._kubectl.get("jobs,pods,secrets", self.name, "app.kubernetes.io/name=slipway-image-build")
        return [f"{one['kind']} {one['metadata']['name']}" for one in found]

    async def until_empty(self, seconds: float = 20) -> None:
        """Wait until builds have left nothing."""
        async with asyncio.timeout(seconds):
            while await asyncio.to_thread(self.objects):
                await asyncio.sleep(0.3)

    def delete(self) -> None:
        """Delete the namespace."""
        self._kubectl("delete", "namespace", self.name, "--wait=false")
