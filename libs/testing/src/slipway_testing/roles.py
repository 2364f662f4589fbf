"""Passwords of the services' database roles in tests.

Roles belong to a server, not to a database: every test that bootstraps must give a role the same password, or it shuts
out the services of the tests before it.
"""

from typing import Final

from slipway_db.database import url_for_role
from slipway_db.specs import role_of

ROLE_PASSWORDS: Final = {name: f"{name}-role-password" for name in ("gateway", "scheduler", "logs", "builder")}


def service_url(admin_url: str, service: str) -> str:
    """The same database's URL for a service's role."""
    return url_for_role(admin_url, role_of(service), ROLE_PASSWORDS[service])
