"""Runs schemathesis over the OpenAPI of one app and collects what it found."""

import copy
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

SEED = int(os.environ.get("SLIPWAY_FUZZ_SEED", "20"))
FULL = os.environ.get("SLIPWAY_CHAOS") == "full"
_SECONDS = 20.0
CHECKS: dict[str, Any] = {
    # Rules such as "a name of this project's commit" cannot be said in a schema, and old clients' spellings (`0` for
    # false, `""` for none) are taken on purpose: what may be accepted is tested where the rule is made.
    "positive_data_acceptance": {"enabled": False},
    "negative_data_rejection": {"enabled": False},
}
# Addresses that a route with an id in their place also fits: there, a method that they lack finds no such id.
_SHADOWED = ("/data/upload/", "/datum-aliases/resolve/", "/projects/ownership_options/")
_DESTROYING = ("/purge/", "/stop/", "/stop", "/drain", "/revoke/")


@dataclass
class Found:
    """What one run did and what was wrong."""

    calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    links: int = 0
    problems: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def report(self, name: str) -> str:
        """One line of figures."""
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{name}: seed {SEED}, {self.calls} calls of {len(self.operations)} operations, "
            f"{self.links} links followed, answers {answers}"
        )

    def complaint(self) -> str:
        """All problems with the call that shows each."""
        return "\n\n".join(f"{' | '.join(key)}\n{sample}" for key, sample in sorted(self.problems.items()))


def with_known_values(
    document: Mapping[str, Any], known: Mapping[str, str], bodies: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """The document with real ids offered beside arbitrary values, where an operation destroys nothing, and with whole
    bodies that create something: a random one hardly ever names a project, its commit and a step of it."""
    made = copy.deepcopy(dict(document))
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            if method == "delete" or path.endswith(_DESTROYING):
                continue
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in known:
                    parameter["schema"] = _offering(parameter["schema"], known[parameter["name"]])
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                schema = content["schema"]
                if "$ref" in schema:
                    schema = copy.deepcopy(made["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
                    content["schema"] = schema
                properties = schema.get("properties", {})
                for name in known.keys() & properties.keys():
                    properties[name] = _offering(properties[name], known[name])
                if kind == "application/json" and (offered := bodies.get(f"{method} {path}")):
                    content["schema"] = {"anyOf": [{"enum": list(offered)}, schema]}
    return made


def _offering(schema: Any, value: str) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "enum": [value]}, schema]}


def fuzz(
    document: Mapping[str, Any],
    base_url: str,
    headers: Mapping[str, str],
    *,
    known: Mapping[str, str],
    bodies: Mapping[str, Sequence[Any]],
) -> Found:
    """Send what schemathesis thinks of: arbitrary calls of each operation, sequences of calls along the links that it
    infers between operations, and in the full run every edge of every constraint."""
    settings: dict[str, Any] = {
        "seed": SEED,
        "base-url": base_url,
        "headers": dict(headers),
        "request-timeout": _SECONDS,
        "continue-on-failure": True,
        "checks": CHECKS,
        "generation": {"no-shrink": True, "database": "none"},
        "phases": {
            "examples": {"enabled": FULL},
            "coverage": {"enabled": FULL},
            "fuzzing": {"generation": {"max-examples": 100 if FULL else 2}},
            "stateful": {"generation": {"max-examples": 200 if FULL else 80}, "max-steps": 10 if FULL else 5},
        },
    }
    schema = schemathesis.openapi.from_dict(
        with_known_values(document, known, bodies), config=SchemathesisConfig.from_dict(settings)
    )
    found = Found()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _collect(event, found)
        elif isinstance(event, events.NonFatalError):
            found.problems[event.label, "error", type(event.value).__name__] = str(event.value)
        elif isinstance(event, events.FatalError):
            raise event.exception
    return found


def _collect(event: Any, found: Found) -> None:
    recorder = event.recorder
    for node in recorder.cases.values():
        found.links += node.parent_id is not None and node.is_transition_applied
        found.operations.add(f"{node.value.method} {node.value.path}")
    for interaction in recorder.interactions.values():
        found.calls += 1
        found.statuses[interaction.response.status_code if interaction.response else 0] += 1
    for case_id, checks in recorder.checks.items():
        case = recorder.cases[case_id].value
        for check in checks:
            if check.status == Status.FAILURE and not (
                check.name == "unsupported_method" and case.path.endswith(_SHADOWED)
            ):
                failure = check.failure_info.failure
                response = recorder.interactions[case_id].response
                answer = "" if response is None else f"{response.status_code} {response.text[:600]}"
                key = (f"{case.method} {case.path}", check.name, failure.title)
                sample = f"{failure.message[:800]}\n{check.failure_info.code_sample[:1500]}\n-> {answer}"
                found.problems.setdefault(key, sample)
