"""`slipway-logs serve`."""

from slipway_kit.cli import service_cli
from slipway_logs.spec import SPEC


def main() -> None:
    """Run the command line."""
    service_cli(SPEC)()


if __name__ == "__main__":
    main()
