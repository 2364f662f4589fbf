"""kill -9 of the relay in the middle of a run: the next one goes on where it was."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from slipway_schemas.logs import LogsAnswer
from tests.api.logs.harness import Attempt, World, end_frame, logs_url_of


def free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def relay_process(
    world: World, database_url: str, redis_url: str, workers: int, internal: int
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "PATH": os.environ["PATH"],
        "SLIPWAY_LOGS__DATABASE__URL": logs_url_of(database_url),
        "SLIPWAY_LOGS__REDIS__URL": redis_url,
        "SLIPWAY_LOGS__KEYS__PRIVATE_KEY_FILE": str(world.keys / "logs"),
        "SLIPWAY_LOGS__KEYS__TRUSTED_KEYS_DIR": str(world.trusted),
        "SLIPWAY_LOGS__STORE": (
            f'{{"type": "local", "path": "{world.home}/store", "signing_key": "{"s" * 40}",'
            ' "public_url": "http://127.0.0.1:1"}'
        ),
        "SLIPWAY_LOGS__TOKEN_PEPPER_FILE": str(world.home / "pepper"),
        "SLIPWAY_LOGS__HTTP__WORKERS_PORT": str(workers),
        "SLIPWAY_LOGS__HTTP__INTERNAL_PORT": str(internal),
        "SLIPWAY_LOGS__ARCHIVE__FLUSH_AFTER_SECONDS": "0.2",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway_logs", "serve"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert b"Traceback" not in output, output.decode()


class Sender:
    """Sends as a worker does: from the line that the relay asks for, again when it does not answer."""

    def __init__(self, world: World, attempt: Attempt, port: int) -> None:
        self._attempt = attempt
        self._url = f"http://127.0.0.1:{port}/workers/v1/logs"
        self._headers = {"Authorization": f"Bearer {world.attempt_signer.sign(attempt.claims())}"}

    async def send(self, *frames: bytes, seconds: float = 20) -> LogsAnswer:
        end = time.monotonic() + seconds
        while True:
            try:
                async with httpx.AsyncClient(timeout=5) as http:
                    answer = await http.post(self._url, content=b"".join(frames), headers=self._headers)
                if answer.status_code == 200:
                    return LogsAnswer.model_validate_json(answer.content)
                assert answer.status_code >= 500, answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, "the relay did not come back"
            time.sleep(0.05)


async def test_killed_relay_loses_nothing(world: World, database_url: str, valkey_url: str) -> None:
    attempt = await world.add_attempt()
    attempt.print(*(f"line {n} {'x' * 200}" for n in range(3000)))
    workers, internal = free_ports()
    sender = Sender(world, attempt, workers)
    position, total = 0, len(attempt.lines)
    for kill_at in (1000, 2000, None):
        with relay_process(world, database_url, valkey_url, workers, internal) as process:
            answer = await sender.send()
            assert answer.next == position, "it wants what follows on what it had"
            while position < (kill_at or total):
                position = (await sender.send(*attempt.frames(position, position + 50))).next
            if kill_at is not None:
                process.kill()
                continue
            await sender.send(end_frame(total))
            end = time.monotonic() + 5
            while (await sender.send()).durable < total:
                assert time.monotonic() < end
                time.sleep(0.05)
            url = f"http://127.0.0.1:{internal}/internal/v1/executions/{attempt.execution_id}/log"
            async with httpx.AsyncClient() as http:
                token = world.gateway.token("logs")
                raw = (await http.get(url, headers={"Authorization": f"Bearer {token}"})).content
            assert raw == b"".join(line for _, line in attempt.lines)
