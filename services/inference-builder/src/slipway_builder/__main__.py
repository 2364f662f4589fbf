"""`slipway-builder serve`."""

from slipway_builder.spec import SPEC
from slipway_kit.cli import service_cli


def main() -> None:
    """Run the command line."""
    service_cli(SPEC)()


if __name__ == "__main__":
    main()
