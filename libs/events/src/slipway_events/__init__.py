"""Outbox relay, stream consumer, trimming, dead letters."""

from slipway_events.consumer import EventConsumer, Handler
from slipway_events.deadletter import try_parked_again
from slipway_events.relay import ConsumerRef, EventRelay
from slipway_events.streams import connect_redis, stream_of

__all__ = [
    "ConsumerRef",
    "EventConsumer",
    "EventRelay",
    "Handler",
    "connect_redis",
    "stream_of",
    "try_parked_again",
]
