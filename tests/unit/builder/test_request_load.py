"""What wakes an endpoint: requests that are open, and those that came lately."""

from slipway_builder.router.load import RECENT_SECONDS, RequestLoad


def test_open_and_recent_requests_count() -> None:
    now = [100.0]
    load = RequestLoad(lambda: now[0])
    assert load.requests("a") == 0
    for _ in range(3):
        load.arrived("a")
    load.left("a")
    assert (load.requests("a"), load.requests("b")) == (3, 0)
    now[0] += RECENT_SECONDS + 1
    assert load.requests("a") == 2
    load.left("a")
    load.left("a")
    assert load.requests("a") == 0
    load.arrived("a")
    load.left("a")
    now[0] += RECENT_SECONDS / 2
    assert load.requests("a") == 1
