"""What a service declares about its schema."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MigrationSpec:
    """One owner of a schema.

    `script_location` is Alembic's, e.g. `slipway_scheduler:migrations`; `views` are the names of the views that
    the owner publishes in `<schema>_pub`, e.g. `execution_v1`.
    """

    service: str
    schema: str
    script_location: str
    views: tuple[str, ...] = ()

    @property
    def published_schema(self) -> str:
        """Schema of the views that others may read."""
        return f"{self.schema}_pub"


def role_of(service: str) -> str:
    """Return the database role of a service."""
    return f"slipway_{service}"
