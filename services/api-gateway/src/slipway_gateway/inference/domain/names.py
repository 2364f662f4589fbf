"""Names that become parts of URLs."""

import re

from slipway_schemas.names import SLUG_PATTERN


def name_problem(what: str, name: str) -> str | None:
    """What is wrong with the name of a deployment, a version or an alias; None when it can be one."""
    if re.fullmatch(SLUG_PATTERN, name):
        return None
    return (
        f"{name!r:.80} cannot be the name of {what}, for it becomes a part of URLs: use 1 to 64 lower-case letters, "
        "digits, '.', '_' and '-', and begin with a letter or a digit."
    )
