"""Prints numbered lines, each different, some of them long; with --pause-every it leaves time to break things."""

import argparse
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--count", type=int, required=True)
parser.add_argument("--pause-every", type=int, default=0)
arguments = parser.parse_args()

for number in range(arguments.count):
    tail = "x" * 300 if number % 1000 == 999 else ""
    sys.stdout.write(f"line {number:07d} äö {tail}\n")
    if arguments.pause_every and number % arguments.pause_every == arguments.pause_every - 1:
        sys.stdout.flush()
        time.sleep(0.05)
sys.stdout.flush()
