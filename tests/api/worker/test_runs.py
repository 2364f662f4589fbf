"""Whole runs on the process runtime."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from slipway_schemas.attempts import ResolvedInput
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited
from slipway_testing.neighbours.platform import PlatformNeighbours

RunWorker = Callable[..., Awaitable[Path]]
StoreInput = Callable[..., Awaitable[ResolvedInput]]

SCRIPT = """
echo "hello $GREETING"
echo "to stderr" >&2
cat "$VH_INPUTS_DIR/data/numbers.csv" > "$VH_OUTPUTS_DIR/copy.csv"
ls -d "$VH_INPUTS_DIR/data"
mkdir -p "$VH_OUTPUTS_DIR/deep/er"
echo deep > "$VH_OUTPUTS_DIR/deep/er/file.txt"
echo '{"label": "side", "from": "sidecar"}' > "$VH_OUTPUTS_DIR/copy.csv.metadata.json"
echo '{"file": "copy.csv", "metadata": {"label": "lines", "extra": 1}}' > "$VH_OUTPUTS_DIR/valohai.metadata.jsonl"
ln -s /etc/passwd "$VH_OUTPUTS_DIR/passwd"
echo live > "$VH_OUTPUTS_DIR/live.bin"
chmod 0444 "$VH_OUTPUTS_DIR/live.bin"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  test -e "$VH_OUTPUTS_DIR/live.bin" || break
  sleep 0.1
done
test -e "$VH_OUTPUTS_DIR/live.bin" && echo "live file still there"
printf '\\n{"accuracy": 0.5, "step": 1}\\n{"accuracy": 0.9, "secret": "%s"}\\n' "$TOKEN"
test -f main.py && cat "$VH_CONFIG_DIR/inputs.json" > "$VH_OUTPUTS_DIR/inputs.json"
echo "the token is $TOKEN"
exit 0
"""


async def test_run_from_inputs_to_outputs(
    platform: PlatformNeighbours, run_worker: RunWorker, store_input: StoreInput
) -> None:
    home = await run_worker()
    data = await store_input("data", b"1,2,3\n" * 1000)
    attempt = await platform.assign(
        SCRIPT,
        files={"main.py": b"print(1)\n", "pkg/a.py": b""},
        inputs=[data],
        secrets={"TOKEN": "hush-hush-secret"},
        variables={"GREETING": "world"},
    )
    fact = await platform.scheduler.ended(attempt)

    log = platform.relay.logs[attempt]
    assert isinstance(fact, Exited), fact
    assert (fact.code, fact.reason) == (0, EndReason.SUCCESS)
    assert log.ended
    assert fact.last_line == len(log.lines)
    assert fact.metadata_lines == len(log.records) == 2
    stdout = log.stream(LogStream.STDOUT)
    assert stdout.startswith(b"hello world\n")
    assert b"the token is *****\n" in stdout
    assert b"live file still there" not in stdout
    assert b"hush-hush" not in b"".join(line for _, line in log.lines)
    assert log.stream(LogStream.STDERR) == b"to stderr\n"
    assert [values["accuracy"] for _, values in log.records] == [0.5, 0.9]
    assert log.records[1][1]["secret"] == "*****"

    outputs = platform.gateway.outputs[attempt].by_name()
    assert set(outputs) == {"copy.csv", "deep/er/file.txt", "live.bin", "inputs.json"}
    assert fact.outputs == 4
    assert outputs["copy.csv"].properties == {"label": "side", "extra": 1, "from": "sidecar"}
    assert outputs["copy.csv"].sha256 == hashlib.sha256(b"1,2,3\n" * 1000).hexdigest()
    assert await platform.gateway.content(attempt, "live.bin") == b"live\n"
    listed = json.loads(await platform.gateway.content(attempt, "inputs.json"))
    assert listed["data"]["files"][0]["checksums"]["md5"] == hashlib.md5(b"1,2,3\n" * 1000).hexdigest()

    statuses = "\n".join(log.statuses())
    assert "numbers.csv, 6000 bytes, md5" in statuses
    assert "passwd is not uploaded" in statuses
    kinds = [one.kind for one in platform.scheduler.facts if one.attempt_id == attempt]
    assert kinds == ["accepted", "user_code_started", "exited"]
    await platform.scheduler.until(lambda: not list((home / "attempts").iterdir()))
