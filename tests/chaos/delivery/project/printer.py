"""Prints what its parameters say, byte for byte the same each time, and leaves outputs.

Tests import `printed` and `output` to know what must have arrived.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

KINDS = ("text", "binary", "long")


def printed(seed: int, kind: str, lines: int) -> Iterator[bytes]:
    """All that is printed, in pieces."""
    chance = random.Random(seed)
    for number in range(lines):
        if number % 50 == 0:
            yield json.dumps({"step": number, "seed": seed}).encode() + b"\n"
        if kind == "binary":
            yield chance.randbytes(chance.randrange(200))
        elif kind == "long" and number % 100 == 99:
            yield bytes(97 + chance.randrange(26) for _ in range(16)) * chance.randrange(20_000)
        else:
            yield f"line {number} of {lines}: {'x' * chance.randrange(80)} {chance.random()}\n".encode()
    yield b"\nlast line\n"


def records(lines: int) -> int:
    """How many metadata records are printed, if no binary line breaks one."""
    return (lines + 49) // 50


def output(seed: int, number: int, size: int) -> bytes:
    """The bytes of one output."""
    return random.Random(f"{seed}-{number}").randbytes(size)


def main() -> None:
    """Print at the wanted rate and write the outputs on the way; every second one is ready before the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=KINDS)
    for name in ("seed", "lines", "per-second", "outputs", "output-bytes", "code"):
        parser.add_argument(f"--{name}", type=int)
    wanted = parser.parse_args()
    folder = Path(os.environ.get("VH_OUTPUTS_DIR", "/valohai/outputs"))
    at = {wanted.lines * (n + 1) // (wanted.outputs + 1): n for n in range(wanted.outputs)}
    began = time.monotonic()
    for number, piece in enumerate(printed(wanted.seed, wanted.kind, wanted.lines)):
        sys.stdout.buffer.write(piece)
        if number in at:
            file = folder / "files" / f"{at[number]}.bin"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(output(wanted.seed, at[number], wanted.output_bytes))
            file.with_name(f"{file.name}.metadata.json").write_text(json.dumps({"number": at[number]}))
            if at[number] % 2:
                file.chmod(0o444)
        if wanted.per_second:
            sys.stdout.buffer.flush()
            time.sleep(max(0.0, began + number / wanted.per_second - time.monotonic()))
    sys.stdout.buffer.flush()
    sys.exit(wanted.code)


if __name__ == "__main__":
    main()
