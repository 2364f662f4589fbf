"""The stop condition of a step, checked on the latest metadata (contract 2.1)."""

from collections.abc import Mapping
from typing import Any

from leval.excs import EvaluatorError
from leval.extras.common_boolean_evaluator import CommonBooleanEvaluator


class StopCondition:
    """Becomes true once. An expression over values that are not there yet, or are no numbers, is false."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._evaluator = CommonBooleanEvaluator()
        self._values: dict[Any, Any] = {}

    def update(self, values: Mapping[str, Any]) -> bool:
        """Take a metadata record and tell whether the condition holds now."""
        for name, value in values.items():
            self._values[name] = value
            if "." in name:
                self._values[tuple(name.split("."))] = value
            self._values[("metadata", name)] = value
        try:
            return bool(self._evaluator.evaluate(self.expression, self._values))
        except (EvaluatorError, SyntaxError, TypeError, ValueError, ArithmeticError):
            return False
