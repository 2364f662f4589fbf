"""`slipway-router`: serve predictions by the table of an inference-builder."""

import asyncio
import sys

import uvloop

from slipway_builder.router.app import StartError, run_router
from slipway_builder.router.engines.protocol import EngineError
from slipway_builder.router.settings import RouterSettings, SettingsError
from slipway_kit.logging import configure


def main() -> int:
    """Run until SIGTERM or Ctrl-C; settings come from the environment."""
    try:
        settings = RouterSettings.load()
        configure("router", settings.log_level, settings.log_json)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_router(settings))
    except (SettingsError, StartError, EngineError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person who starts it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
