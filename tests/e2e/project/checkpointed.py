"""Trains three epochs, from the checkpoint of an interrupted run where there is one."""

import json
import os
import time
from pathlib import Path

inputs, outputs = Path(os.environ["VH_INPUTS_DIR"]), Path(os.environ["VH_OUTPUTS_DIR"])
config = json.loads((Path(os.environ["VH_CONFIG_DIR"]) / "inputs.json").read_text())
kept = inputs / "_restart" / "checkpoints" / "last.txt"
if kept.exists():
    listed = [file["name"] for file in config["_restart"]["files"]]
    print(f"resuming from {kept.read_text()}, of {listed}", flush=True)
else:
    print("starting from nothing", flush=True)
    (outputs / "checkpoints").mkdir()
    try:
        time.sleep(300)
    except KeyboardInterrupt:
        (outputs / "checkpoints" / "last.txt").write_text("epoch 2")
        print("checkpoint written", flush=True)
