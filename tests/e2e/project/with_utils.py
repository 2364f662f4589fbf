"""Uses valohai-utils as its users do: parameters, inputs, metadata, outputs with properties."""

import json
from pathlib import Path

import valohai

valohai.prepare(
    step="utils",
    image="slipway-test/python:bookworm",
    default_inputs={"data": "datum://not-used-on-the-platform"},
    default_parameters={"factor": 9.0, "names": ["z"], "flagged": False},
)

paths = [Path(path) for path in valohai.inputs("data").paths()]
seen = {
    "factor": valohai.parameters("factor").value,
    "names": valohai.parameters("names").value,
    "flagged": valohai.parameters("flagged").value,
    "first": Path(valohai.inputs("data").path()).name,
    "files": sorted(path.name for path in paths),
    "content": {path.name: path.read_text() for path in paths},
}
with valohai.logger() as logger:
    logger.log("epoch", 3)
    logger.log("factor", seen["factor"])

outputs = valohai.outputs()
Path(outputs.path("seen.json")).write_text(json.dumps(seen))
Path(outputs.path("sub/model.txt")).write_text("a model\n")
with valohai.output_properties() as properties:
    properties.add(
        file="sub/model.txt",
        properties={"stage": "test", "valohai.tags": ["e2e", "model"], "valohai.alias": "e2e-model"},
    )
Path(outputs.path("live.txt")).write_text("live\n")
outputs.live_upload("live.txt")
