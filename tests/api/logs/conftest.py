from tests.api.logs.harness import (
    any_redis_url,
    any_relay,
    redis_server,
    relay,
    served,
    template_database,
    world,
)

__all__ = ["any_redis_url", "any_relay", "redis_server", "relay", "served", "template_database", "world"]
