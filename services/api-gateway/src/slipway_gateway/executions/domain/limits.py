"""Limits, resources and debugging of a run, from the payload's `runtime_config` or the step."""

import math
import re
from collections.abc import Mapping
from typing import Any

from leval.excs import EvaluatorError
from leval.extras.common_boolean_evaluator import CommonBooleanEvaluator
from valohai_yaml.objs import Step
from valohai_yaml.utils.duration import parse_duration

from slipway_gateway.executions.domain.problems import Problems
from slipway_schemas.executions import Resources

_MIB = 1024 * 1024
_DEBUG_PORTS = range(1024, 65536)
_PUBLIC_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+(?: [^\r\n]*)?")


def seconds(field: str, given: int | str | None, step_value: Any, problems: Problems) -> int | None:
    """A limit in whole seconds: the given one, else the step's. 0 and none at all mean no limit."""
    if given is None:
        return math.ceil(step_value.total_seconds()) or None if step_value else None
    if isinstance(given, str) and given.strip().isdecimal():
        given = int(given)
    try:
        duration = parse_duration(given)
        total = math.ceil(duration.total_seconds()) if duration else 0
    except (ValueError, IndexError, OverflowError):
        problems.add(field, f"{given!r:.100} is no duration. Use seconds, or a text such as 90s, 10min or 1h 30m.")
        return None
    if total < 0:
        problems.add(field, "A duration cannot be negative.")
        return None
    return total or None


def stop_condition(given: str | None, step: Step, problems: Problems) -> str | None:
    """The expression that ends the run when it becomes true. Its syntax is checked here."""
    expression = given or step.stop_condition
    if not expression or not str(expression).strip():
        return None
    try:
        CommonBooleanEvaluator().verify(str(expression))
    except (EvaluatorError, SyntaxError, TypeError, ValueError, RecursionError) as error:
        problems.add("stop_condition", f"{expression!r:.200} cannot be evaluated: {error}.")
        return None
    return str(expression)


def resources(step: Step, config: Mapping[str, Any], problems: Problems) -> Resources:
    """CPUs, memory and devices: each figure of `runtime_config.kubernetes`, else of the step.

    Memory is in MiB in both. An explicit `devices: {}` asks for none.
    """
    asked = _section(config, "kubernetes", "containers", "workload", "resources", problems=problems)
    requests = _mapping(asked.get("requests"), problems)
    limits = _mapping(asked.get("limits"), problems)
    devices = limits.get("devices", step.resources.devices.devices)
    counted = _devices(devices, problems)
    memory = _number(requests.get("memory", step.resources.memory.min), "memory", problems)
    memory_max = _number(limits.get("memory", step.resources.memory.max), "memory", problems)
    return Resources(
        cpus=_number(requests.get("cpu", step.resources.cpu.min), "cpu", problems),
        cpus_max=_number(limits.get("cpu", step.resources.cpu.max), "cpu", problems),
        memory_bytes=None if memory is None else int(memory * _MIB),
        memory_max_bytes=None if memory_max is None else int(memory_max * _MIB),
        gpus=None if counted is None else sum(n for name, n in counted.items() if name.rpartition("/")[2] == "gpu"),
        devices=counted,
    )


def cache_volumes(step: Step, config: Mapping[str, Any], problems: Problems) -> tuple[str, ...]:
    """Names of the volume claims used as an input cache; an explicit empty list asks for none."""
    asked = _section(config, "kubernetes", problems=problems).get("cache_volumes")
    if asked is None:
        return tuple(step.cache_volumes)
    if not isinstance(asked, list):
        problems.add("runtime_config", "kubernetes.cache_volumes is a list of {pvc_name}.")
        return ()
    return tuple(str(one.get("pvc_name") if isinstance(one, Mapping) else one) for one in asked)


def remote_debug(config: Mapping[str, Any], problems: Problems) -> tuple[int | None, str | None]:
    """Port and public key for SSH into the run, checked."""
    asked = _section(config, "remote_debug", problems=problems)
    if not asked:
        return None, None
    port, key = asked.get("debug_port"), str(asked.get("debug_key") or "").strip()
    if isinstance(port, str) and port.isdecimal():
        port = int(port)
    if not isinstance(port, int) or port not in _DEBUG_PORTS:
        problems.add("runtime_config", f"remote_debug.debug_port is a number from 1024 to 65535, not {port!r:.40}.")
        return None, None
    if not _PUBLIC_KEY.fullmatch(key):
        problems.add("runtime_config", "remote_debug.debug_key is a public SSH key on one line, as in id_ed25519.pub.")
        return None, None
    return port, key


def _section(config: Mapping[str, Any], *path: str, problems: Problems) -> Mapping[str, Any]:
    found: Mapping[str, Any] = config
    for name in path:
        found = _mapping(found.get(name), problems)
    return found


def _mapping(value: Any, problems: Problems) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.add("runtime_config", f"{value!r:.100} stands where an object is expected.")
        return {}
    return value


def _number(value: Any, name: str, problems: Problems) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number < math.inf:
        problems.add("runtime_config", f"{name} is a number of 0 or more, not {value!r:.40}.")
        return None
    return number


def _devices(value: Any, problems: Problems) -> dict[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(
        isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in value.values()
    ):
        problems.add("runtime_config", "devices names each device with a whole number, such as nvidia.com/gpu: 1.")
        return None
    return {str(name): count for name, count in value.items()}
