"""Errors in the words of the compatible API."""

from slipway_kit.errors import FieldProblem, Invalid


def does_not_exist(field: str, message: str) -> Invalid:
    """The object that `field` names does not exist, or the caller may not see it."""
    return Invalid(message, field=field, code="does_not_exist")


def required(*fields: str) -> Invalid:
    """These fields are missing."""
    return Invalid.of_fields({field: [FieldProblem("This field is required.", "required")] for field in fields})
