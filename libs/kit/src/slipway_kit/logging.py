"""Structured logs: events are constants with key-values; secrets never get through."""

import logging
import sys
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

_SECRET_KEYS = frozenset({"password", "token", "secret", "authorization", "cookie", "private_key", "api_key"})
_MASK = "**********"


def get_logger() -> FilteringBoundLogger:
    """Return a logger; it may be made at import time, for it reads the configuration at each use."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger("slipway"))


def configure(service: str, level: str = "INFO", json: bool = True) -> None:
    """Set up logging of the whole process, on standard error.

    `service` stands on every line that does not name its own: services that share a process bind theirs
    around requests and background tasks. `json=False` writes lines for people.
    """

    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        # Plain tracebacks: the default one prints local variables, and those may hold secrets.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("uvicorn", "uvicorn.error", "httpx", "httpcore", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace the values of keys that hold secrets, whatever was passed."""
    for key in event:
        if key.lower() in _SECRET_KEYS:
            event[key] = _MASK
    return event


def bind(**values: Any) -> None:
    """Put key-values on every later log line of the running task and of tasks that it starts."""
    structlog.contextvars.bind_contextvars(**values)
