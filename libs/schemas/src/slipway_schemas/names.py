"""Name rules shared by every service (design section 12, 'Names and accounts')."""

from typing import Annotated

from pydantic import StringConstraints

SLUG_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN)]
"""Part of a URL: account slugs, environment slugs, deployment, version and alias names. Compared without case."""
