"""Writes an output, then works until it is told to stop. Leaves a trace of how it was stopped."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, required=True)
parser.add_argument("--silent", action="store_true")
parser.add_argument("--accuracy", action="store_true")
arguments = parser.parse_args()

outputs = Path(os.environ["VH_OUTPUTS_DIR"])
(outputs / "partial.txt").write_text("written before the end\n")


def interrupted(number: int, frame: object) -> None:
    (outputs / "interrupted.txt").write_text(f"{signal.Signals(number).name}\n")
    print("interrupted", flush=True)
    sys.exit(9)


signal.signal(signal.SIGINT, interrupted)
print("slow begins", flush=True)
end = time.monotonic() + arguments.seconds
tick = 0
while time.monotonic() < end:
    time.sleep(0.2)
    tick += 1
    if arguments.accuracy:
        print(json.dumps({"tick": tick, "accuracy": min(1.0, tick * 0.3)}), flush=True)
    elif not arguments.silent:
        print(f"tick {tick}", flush=True)
print("slow ends", flush=True)
