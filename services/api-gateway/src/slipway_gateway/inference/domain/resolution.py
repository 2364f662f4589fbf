"""From an endpoint of `valohai.yaml` to what the builder is told: everything that the commit alone can tell."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from valohai_yaml.objs import Config, Endpoint
from valohai_yaml.utils import listify

from slipway_gateway.executions.domain.problems import Problems
from slipway_gateway.inference.domain.request import EndpointConfiguration
from slipway_schemas.inference.versions import (
    DEFAULT_PORT,
    Bounds,
    EndpointResources,
    EndpointSpec,
    Scale,
    SharedVolume,
    Toleration,
    WorkspaceVolume,
)
from slipway_schemas.storable import is_storable

FIELD = "endpoint_configurations"
METADATA_FILE = "valohai-metadata.json"
"""Written by the platform into every image (contract 4.4)."""

_MIB = 1024**2
_PORTS = range(1025, 65536)
_MAX_PATH = 1024
_CODE_ROOT = PurePosixPath("/valohai")
_WSGI = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
_IMAGE = re.compile(
    r"([A-Za-z0-9.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"(([a-z0-9.-]{{1,253}}/)?{_LABEL})=({_LABEL})?")


@dataclass(frozen=True)
class WantedFile:
    """A file that an endpoint declares and the datum chosen for it."""

    name: str
    path: str
    datum_id: UUID


@dataclass(frozen=True)
class ResolvedEndpoint:
    """An endpoint of the new version; its files still have to be looked up."""

    spec: EndpointSpec
    files: tuple[WantedFile, ...]
    enabled: bool
    scale: Scale


def resolve_endpoints(
    config: Config, wanted: Mapping[str, EndpointConfiguration], problems: Problems
) -> list[ResolvedEndpoint]:
    """The chosen endpoints. Everything wrong is noted; the result counts only when nothing was."""
    if not wanted:
        problems.add(FIELD, f"Choose at least one endpoint; {_known(config)}.", "required")
    found = []
    for name, configuration in wanted.items():
        endpoint: Endpoint | None = config.endpoints.get(name)
        if endpoint is None:
            problems.add(FIELD, f"The commit has no endpoint {name!r:.100}; {_known(config)}.", "does_not_exist")
        else:
            resolved = _resolve(endpoint, configuration, problems)
            if resolved is not None:
                found.append(resolved)
    return found


def _known(config: Config) -> str:
    return f"it has: {', '.join(config.endpoints)}" if config.endpoints else "it has none"


def _resolve(endpoint: Endpoint, configuration: EndpointConfiguration, problems: Problems) -> ResolvedEndpoint | None:
    notes = _Notes(endpoint.name, problems)
    files = _files(endpoint, configuration, notes)
    if configuration.replicas_max is not None and configuration.replicas_max < configuration.replicas:
        notes.add(f"replicas_max is {configuration.replicas_max}, below replicas, {configuration.replicas}")
    fields = {
        "name": endpoint.name,
        "image": _image(endpoint, notes),
        "server_command": tuple(str(line) for line in listify(endpoint.server_command)),
        "wsgi": _wsgi(endpoint, notes),
        "port": _port(endpoint, notes),
        "description": str(endpoint.description or ""),
        "node_selector": _node_selector(endpoint, notes),
        "tolerations": _tolerations(endpoint, notes),
        "resources": _resources(endpoint, notes),
        "workspace_volume": _workspace(endpoint, notes),
        "shared_volumes": _shared(endpoint, notes),
    }
    if not is_storable([fields["server_command"], fields["description"]]):
        notes.add("its server-command or description holds a NUL or half of a character")
    if bool(fields["server_command"]) == bool(fields["wsgi"]):
        notes.add("give either server-command or wsgi")
    if notes.found:
        return None
    return ResolvedEndpoint(EndpointSpec.model_validate(fields), files, configuration.enabled, configuration.scale)


class _Notes:
    """Problems of one endpoint, each with the endpoint's name before it."""

    def __init__(self, endpoint: str, problems: Problems) -> None:
        self._endpoint = endpoint
        self._problems = problems
        self.found = 0

    def add(self, text: str, code: str = "invalid") -> None:
        self.found += 1
        self._problems.add(FIELD, f"{self._endpoint}: {text}.", code)


def _files(endpoint: Endpoint, configuration: EndpointConfiguration, notes: _Notes) -> tuple[WantedFile, ...]:
    declared = {one.name: one for one in endpoint.files}
    for name in configuration.files.keys() - declared.keys():
        known = ", ".join(declared) or "none"
        notes.add(f"it declares no file {name!r:.100}; it declares: {known}", "does_not_exist")
    wanted, places = [], dict[PurePosixPath, str]()
    for name, one in declared.items():
        place = _place(str(one.path))
        if place is None:
            notes.add(f"the path {one.path!r:.200} of file {name} is not a path inside the code's folder")
        else:
            for other, owner in places.items():
                if place == other or place in other.parents or other in place.parents:
                    notes.add(f"the files {owner} and {name} have paths that do not fit together: {other} and {place}")
            places[place] = name
        if name not in configuration.files:
            notes.add(f"the file {name} has no datum; give one, by id", "required")
        elif place is not None:
            wanted.append(WantedFile(name, str(place), configuration.files[name]))
    return tuple(wanted)


def _place(path: str) -> PurePosixPath | None:
    """The path below the code's folder, or None when it leaves it or belongs to the platform."""
    pure = PurePosixPath(path)
    control = any(ord(char) < ord(" ") for char in path) or "\\" in path or not is_storable(path)
    if control or len(path) > _MAX_PATH or pure.is_absolute() or ".." in pure.parts or not pure.parts:
        return None
    return None if pure.parts[0] == METADATA_FILE or path.endswith("/") else pure


def _image(endpoint: Endpoint, notes: _Notes) -> str:
    image = str(endpoint.image or "").strip()
    if len(image) > _MAX_PATH or not _IMAGE.fullmatch(image):
        notes.add(f"{image!r:.100} is no image. Use a name such as python:3.12-slim")
    return image


def _wsgi(endpoint: Endpoint, notes: _Notes) -> str | None:
    if endpoint.wsgi is None:
        return None
    wsgi = str(endpoint.wsgi).strip()
    if not _WSGI.fullmatch(wsgi):
        notes.add(f"wsgi is a module, or module:callable, not {wsgi!r:.100}")
    return wsgi


def _port(endpoint: Endpoint, notes: _Notes) -> int:
    port: Any = endpoint.port
    if port is None:
        return DEFAULT_PORT
    if isinstance(port, str) and port.isascii() and port.isdecimal():
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, int | float) or port not in _PORTS:
        notes.add(f"port is a number from {_PORTS.start} to {_PORTS.stop - 1}, not {port!r:.40}")
        return DEFAULT_PORT
    return int(port)


def _node_selector(endpoint: Endpoint, notes: _Notes) -> dict[str, str]:
    text = str(endpoint.node_selector or "").strip()
    selector = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        found = _SELECTOR.fullmatch(part)
        if found is None:
            notes.add(f"node-selector is label=value as Kubernetes takes it, not {part!r:.150}")
        else:
            key, _, value = part.partition("=")
            selector[key] = value
    return selector


def _tolerations(endpoint: Endpoint, notes: _Notes) -> tuple[Toleration, ...]:
    try:
        return tuple(Toleration.model_validate(one) for one in endpoint.tolerations or ())
    except ValidationError:
        notes.add("tolerations have key, operator (Equal, Exists), value, effect (NoSchedule, NoExecute, …)")
        return ()


def _resources(endpoint: Endpoint, notes: _Notes) -> EndpointResources:
    given: Any = endpoint.resources or {}
    if not isinstance(given, Mapping):
        notes.add("resources has the keys cpu, memory, ephemeral-storage and devices")
        return EndpointResources()
    return EndpointResources(
        cpu=_bounds(given, "cpu", 1, notes),
        memory_bytes=_bounds(given, "memory", _MIB, notes),
        ephemeral_storage_bytes=_bounds(given, "ephemeral-storage", _MIB, notes),
        devices=_devices(given.get("devices") or {}, notes),
    )


def _bounds(given: Mapping[str, Any], name: str, unit: int, notes: _Notes) -> Bounds:
    section = given.get(name) or {}
    if not isinstance(section, Mapping):
        notes.add(f"{name} of resources has min and max")
        return Bounds()
    found: dict[str, float] = {}
    for key in ("min", "max"):
        value = section.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value * unit < math.inf:
            notes.add(f"{key} of {name} is a number of 0 or more, not {value!r:.40}")
        else:
            found[key] = value * unit
    if len(found) == len(("min", "max")) and found["min"] > found["max"]:
        notes.add(f"min of {name} is above its max")
    return Bounds.model_validate(found)


def _devices(given: Any, notes: _Notes) -> dict[str, int]:
    if isinstance(given, Mapping) and all(
        isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in given.values()
    ):
        return {str(name): count for name, count in given.items()}
    notes.add("devices names each device with a whole number, such as nvidia.com/gpu: 1")
    return {}


def _workspace(endpoint: Endpoint, notes: _Notes) -> WorkspaceVolume | None:
    given: Any = endpoint.workspace_volume
    if not given:
        return None
    if not isinstance(given, Mapping) or not _mountable(given.get("mount-path")):
        notes.add("workspace-volume needs a mount-path that is absolute and hides neither / nor /valohai")
        return None
    try:
        return WorkspaceVolume(
            mount_path=given["mount-path"], size_gib=given["size"], storage_class=given.get("storage-class-name")
        )
    except (ValidationError, KeyError):
        notes.add("workspace-volume needs a size in GiB, a whole number of 1 or more")
        return None


def _shared(endpoint: Endpoint, notes: _Notes) -> tuple[SharedVolume, ...]:
    given: Any = endpoint.shared_volumes or ()
    volumes: list[SharedVolume] = []
    if not isinstance(given, Sequence):
        notes.add("shared-volumes is a list")
        return ()
    workspace: Any = endpoint.workspace_volume
    taken = [workspace.get("mount-path")] if isinstance(workspace, Mapping) else []
    for one in given:
        try:
            path = one["mount-path"]
            sub = one.get("sub-path")
            if not _mountable(path) or (sub and (sub.startswith("/") or ".." in PurePosixPath(sub).parts)):
                notes.add(f"the shared volume at {path!r:.100} leaves its place; use an absolute mount-path without ..")
                continue
            if path in taken:
                notes.add(f"two volumes are mounted at {path!r:.100}")
            taken.append(path)
            volumes.append(
                SharedVolume(
                    claim=one["pvc-name"], mount_path=path, sub_path=sub, read_only=bool(one.get("read-only", False))
                )
            )
        except (ValidationError, KeyError, TypeError, AttributeError):
            notes.add("a shared volume has pvc-name, mount-path, and optionally sub-path and read-only")
    return tuple(volumes)


def _mountable(path: Any) -> bool:
    if not isinstance(path, str) or not path.startswith("/") or not is_storable(path):
        return False
    pure = PurePosixPath(path)
    return ".." not in pure.parts and pure not in (_CODE_ROOT, *_CODE_ROOT.parents)
