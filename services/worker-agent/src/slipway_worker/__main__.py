"""Command line of the worker."""

from slipway_kit.cli import service_cli
from slipway_worker.spec import SPEC


def main() -> None:
    """Run the command line."""
    service_cli(SPEC)()


if __name__ == "__main__":
    main()
