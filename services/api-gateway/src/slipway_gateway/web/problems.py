"""What is wrong with a posted form, by field, for the page that shows it again."""

from slipway_kit.errors import Invalid, SlipwayError
from slipway_kit.errors.types import NON_FIELD

Problems = dict[str, tuple[str, ...]]


def problems_of(error: SlipwayError) -> Problems:
    """Sentences by field; what belongs to no field is under `non_field_errors`."""
    if isinstance(error, Invalid) and error.problems:
        return {name: tuple(one.message for one in found) for name, found in error.problems.items()}
    return {error.field or NON_FIELD: (error.message,)}
