"""Which environment an execution goes to (contract 1.1 'Lookup keys' and 2.2 'step')."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from slipway_gateway.executions.domain.problems import Problems

PROJECT_DEFAULT: Final = "PROJECT_DEFAULT"
"""What a payload says to mean the project's default environment."""


@dataclass(frozen=True)
class EnvironmentChoice:
    """An environment that the project may use."""

    id: UUID
    slug: str
    name: str
    enabled: bool


def choose_environment(
    candidates: Sequence[EnvironmentChoice],
    *,
    given: str | None,
    step: str | None,
    project_default: UUID | None,
    problems: Problems,
) -> EnvironmentChoice | None:
    """Payload > step > project > the first enabled one by slug. None only with a problem noted.

    A payload names an environment by id or slug. A step may also give a part of the name or slug.
    """
    ordered = sorted(candidates, key=lambda one: (not one.enabled, one.slug))
    if given is not None and given.strip() and given != PROJECT_DEFAULT:
        chosen = _named(ordered, given)
        if chosen is None:
            known = ", ".join(one.slug for one in ordered) or "none"
            problems.add(
                "environment", f"There is no environment {given!r:.100} for you. There are: {known}.", "does_not_exist"
            )
        return chosen
    if given is None and step is not None:
        chosen = _named(ordered, step) or _containing(ordered, step)
        if chosen is None:
            problems.add(
                "environment",
                f"The step's environment {step!r:.100} does not exist for you. Name another with the execution, "
                "or correct it in valohai.yaml.",
                "does_not_exist",
            )
        return chosen
    return _default(ordered, project_default, problems)


def _default(
    ordered: Sequence[EnvironmentChoice], project_default: UUID | None, problems: Problems
) -> EnvironmentChoice | None:
    for one in ordered:
        if one.id == project_default:
            return one
    for one in ordered:
        if one.enabled:
            return one
    problems.add(
        "environment",
        "There is no enabled environment that you may use. Ask the operator to add one, or to enable one.",
        "does_not_exist",
    )
    return None


def _named(ordered: Sequence[EnvironmentChoice], reference: str) -> EnvironmentChoice | None:
    wanted = reference.strip().lower()
    return next((one for one in ordered if wanted in (str(one.id), one.slug.lower())), None)


def _containing(ordered: Sequence[EnvironmentChoice], part: str) -> EnvironmentChoice | None:
    wanted = part.strip().lower()
    return next((one for one in ordered if wanted in one.slug.lower() or wanted in one.name.lower()), None)
