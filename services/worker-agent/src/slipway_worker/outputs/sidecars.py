"""Properties that user code gives its outputs (contract 3.11)."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slipway_schemas.base import JsonObject
from slipway_worker.outputs.walking import opened

PROPERTIES_FILE: Final = "valohai.metadata.jsonl"
SIDECAR_SUFFIX: Final = ".metadata.json"
_MAX_SIDECAR_BYTES: Final = 16 * 1024 * 1024
_MAX_PROPERTIES_BYTES: Final = 1024 * 1024 * 1024


@dataclass
class Properties:
    """Properties by output name, and what could not be read."""

    by_name: dict[str, JsonObject] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def sidecars_of(names: Iterable[str], uploaded: Iterable[str] = ()) -> frozenset[str]:
    """Which of the files are sidecars: the properties file, and `<file>.metadata.json` of a file that exists."""
    found = set(names)
    outputs = found | set(uploaded)
    return frozenset(
        name
        for name in found
        if name == PROPERTIES_FILE or (name.endswith(SIDECAR_SUFFIX) and name.removesuffix(SIDECAR_SUFFIX) in outputs)
    )


def read_properties(root: Path, sidecars: Iterable[str]) -> Properties:
    """All properties: the properties file first, then the sidecars, which win."""
    result = Properties()
    names = set(sidecars)
    if PROPERTIES_FILE in names:
        _read_lines(root, result)
    for name in sorted(names - {PROPERTIES_FILE}):
        found = read_sidecar(root, name.removesuffix(SIDECAR_SUFFIX), result.warnings)
        if found is not None:
            output = name.removesuffix(SIDECAR_SUFFIX)
            result.by_name[output] = {**result.by_name.get(output, {}), **found}
    return result


def read_sidecar(root: Path, output: str, warnings: list[str]) -> JsonObject | None:
    """Properties of one output by its sidecar; None when there is none."""
    name = output + SIDECAR_SUFFIX
    try:
        content = _read(root, name, _MAX_SIDECAR_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.append(f"{name} cannot be read: {error}")
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        warnings.append(f"{name} is not valid JSON: {error}")
        return None
    if not isinstance(value, dict):
        warnings.append(f"{name} must hold a JSON object")
        return None
    if not _storable(value):
        warnings.append(f"{name} has a character that cannot be stored (NUL, or half of a surrogate pair)")
        return None
    return value


def _read_lines(root: Path, result: Properties) -> None:
    try:
        content = _read(root, PROPERTIES_FILE, _MAX_PROPERTIES_BYTES)
    except OSError as error:
        result.warnings.append(f"{PROPERTIES_FILE} cannot be read: {error}")
        return
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            name, properties = value["file"], value["metadata"]
            if not isinstance(name, str) or not isinstance(properties, dict) or not _storable(properties):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            result.warnings.append(
                f'{PROPERTIES_FILE} line {number} is not {{"file": "<name>", "metadata": {{...}}}}; it is left out'
            )
            continue
        result.by_name[name] = {**result.by_name.get(name, {}), **properties}


def _storable(value: object) -> bool:
    """Whether Postgres can hold it: text without NUL and without halves of surrogate pairs."""
    if isinstance(value, str):
        return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(_storable(key) and _storable(one) for key, one in value.items())
    return all(map(_storable, value)) if isinstance(value, list) else True


def _read(root: Path, name: str, limit: int) -> bytes:
    with opened(root, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise OSError(f"it has {size} bytes, more than the {limit} allowed")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read()
