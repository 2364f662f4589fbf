"""Does what its parameters say: prints numbered lines, sleeps, writes outputs, exits. Standard library only.

The checker imports it to know every line and every byte beforehand.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

STOPPED_CODE = 9


def began(process_id: int) -> str:
    """The first line: one per start of the program."""
    return f"began as {process_id}"


def line(seed: int, number: int) -> str:
    """A numbered line, different in every run; now and then a long one."""
    tail = "x" * 2000 if number % 500 == 499 else "ä" * (seed % 7)
    return f"{seed}:{number:06d} {tail}"


def metadata(seed: int, number: int) -> str:
    """A line that is metadata, too."""
    return json.dumps({"seed": seed, "number": number})


def output(seed: int, number: int) -> bytes:
    """The content of an output file."""
    source = random.Random(f"{seed}:{number}")
    return source.randbytes(source.randrange(200_000))


def lines(seed: int, count: int) -> list[str]:
    """Everything that follows the first line."""
    return [metadata(seed, number) if number % 100 == 50 else line(seed, number) for number in range(count)]


def stopped(after: int) -> str:
    """The last line of a run that was told to stop."""
    return f"stopped after {after} lines"


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lines", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--outputs", type=int, required=True)
    parser.add_argument("--code", type=int, required=True)
    wanted = parser.parse_args()

    stops: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: stops.append(number))
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    print(began(os.getpid()), flush=True)
    folder = Path(os.environ["VH_OUTPUTS_DIR"])
    start = time.monotonic()
    for number, text in enumerate(lines(wanted.seed, wanted.lines)):
        while (number / wanted.lines) * wanted.seconds > time.monotonic() - start and not stops:
            sys.stdout.flush()
            time.sleep(0.02)
        if stops:
            print(stopped(number), flush=True)
            sys.exit(STOPPED_CODE)
        print(text)
        if number % max(1, wanted.lines // (wanted.outputs + 1)) == 0:
            index = number // max(1, wanted.lines // (wanted.outputs + 1))
            if index < wanted.outputs:
                (folder / f"output-{index}.bin").write_bytes(output(wanted.seed, index))
    for index in range(wanted.outputs):
        (folder / f"output-{index}.bin").write_bytes(output(wanted.seed, index))
    sys.stdout.flush()
    sys.exit(wanted.code)


if __name__ == "__main__":
    main()
