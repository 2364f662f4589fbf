"""Reports everything that a run is given, as log lines, metadata and an output file. Standard library only."""

import hashlib
import json
import os
import sys
from pathlib import Path

inputs = Path(os.environ["VH_INPUTS_DIR"])
outputs = Path(os.environ["VH_OUTPUTS_DIR"])
config = Path(os.environ["VH_CONFIG_DIR"])

files = {
    str(file.relative_to(inputs)): hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(inputs.rglob("*"))
    if file.is_file()
}
report = {
    "argv": sys.argv[1:],
    "cwd": str(Path.cwd()),
    "environment": {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(("VH_", "GREETING", "E2E_", "PYTHONUNBUFFERED"))
    },
    "inputs": files,
    "input_folders": sorted(folder.name for folder in inputs.iterdir()),
    "config_files": sorted(file.name for file in config.iterdir()),
    "parameters": json.loads((config / "parameters.json").read_text() or "{}"),
    "inputs_json": json.loads((config / "inputs.json").read_text() or "{}"),
    "os": Path("/etc/os-release").read_text(),
}

print("pre begins")
print("to stderr", file=sys.stderr)
print(json.dumps({"epoch": 1, "accuracy": 0.5}))
print(json.dumps({"epoch": 2, "accuracy": 0.75, "nested": {"a": [1, 2]}}))
(outputs / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True))
(outputs / "result.txt").write_text("the result\n")
nested = outputs / "nested" / "deep"
nested.mkdir(parents=True)
(nested / "blob.bin").write_bytes(bytes(range(256)) * 512)
(nested / "notes.txt").write_text("nested notes\n")
print("pre ends")
