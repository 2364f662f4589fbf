"""What the internal app of every service answers: is it alive, is it ready, what did it measure."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_kit.errors import SlipwayError

OK = "ok"
_CHECK_TIMEOUT = 5.0


@dataclass(frozen=True)
class ReadyCheck:
    """One condition of readiness: `check` raises while it does not hold."""

    name: str
    check: Callable[[], Awaitable[None]]


class HealthApp:
    """Pure ASGI: answers `/healthz`, `/readyz` and `/metrics`; the rest goes to the service's internal app."""

    def __init__(
        self,
        app: ASGIApp | None,
        checks: Sequence[ReadyCheck],
        registry: CollectorRegistry,
        stopping: asyncio.Event,
    ) -> None:
        self._app = app
        self._checks = checks
        self._registry = registry
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        match scope["path"]:
            case "/healthz":
                response: Response = JSONResponse({"status": "alive"})
            case "/readyz":
                response = await self._readiness()
            case "/metrics":
                response = Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
            case _ if self._app is not None:
                await self._app(scope, receive, send)
                return
            case _:
                response = JSONResponse({"title": "Not found", "status": 404, "code": "not_found"}, 404)
        await response(scope, receive, send)

    async def _readiness(self) -> Response:
        checks = await run_checks(self._checks)
        if self._stopping.is_set():
            checks["process"] = "stopping"
        ready = all(reason == OK for reason in checks.values())
        return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)


async def run_checks(checks: Sequence[ReadyCheck]) -> dict[str, str]:
    """What each check finds, by its name: `ok`, or the reason why not."""
    found = await asyncio.gather(*(_run(check) for check in checks))
    return {check.name: reason or OK for check, reason in zip(checks, found, strict=True)}


async def _run(check: ReadyCheck) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT):
            await check.check()
    except TimeoutError:
        return f"no answer within {_CHECK_TIMEOUT:g} s"
    except SlipwayError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - any failure means not ready; the text may hold secrets
        return type(error).__name__
    return None
