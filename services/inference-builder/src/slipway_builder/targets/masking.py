"""Settings of a target as an administrator sees and sends them: secrets are masked."""

from typing import Any, Final

from slipway_kit.errors import Invalid
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.versions import MASK

_SECRETS: Final = frozenset({"kubeconfig", "password"})


def masked(settings: JsonObject) -> JsonObject:
    """The settings without their secrets."""
    return {name: MASK if name in _SECRETS and value else _masked(value) for name, value in settings.items()}


def unmasked(settings: JsonObject, kept: JsonObject, path: str = "settings") -> JsonObject:
    """Put the secrets of the settings that are kept in place of masks. Raises `Invalid` where there was none."""
    found: JsonObject = {}
    for name, value in settings.items():
        old = kept.get(name)
        if name in _SECRETS and value == MASK:
            if old is None:
                raise Invalid(f"{path}.{name} is masked, and nothing was kept there: send its value.", field="settings")
            found[name] = old
        else:
            found[name] = _unmasked(value, old, f"{path}.{name}")
    return found


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return masked(value)
    return [_masked(one) for one in value] if isinstance(value, list) else value


def _unmasked(value: Any, kept: Any, path: str) -> Any:
    if isinstance(value, dict):
        return unmasked(value, kept if isinstance(kept, dict) else {}, path)
    if isinstance(value, list):
        before = kept if isinstance(kept, list) else []
        return [_unmasked(one, _same(one, index, before), f"{path}.{index}") for index, one in enumerate(value)]
    return value


def _same(value: Any, index: int, kept: list[Any]) -> Any:
    """What an item of a list was: the one of the same host, where items have one."""
    if isinstance(value, dict) and "host" in value:
        return next((one for one in kept if isinstance(one, dict) and one.get("host") == value["host"]), None)
    return kept[index] if index < len(kept) else None
