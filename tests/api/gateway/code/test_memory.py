"""Memory of a served gateway while a large package is posted to it."""

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

MIB = 1024**2
PACKAGE_BYTES = 300 * MIB
GROWTH_BYTES = 80 * MIB
START_SECONDS = 60.0


@pytest.fixture
def served(settings, free_port, tmp_path) -> Iterator[tuple[str, int]]:
    """`python -m slipway_gateway serve`; gives its origin and its process id."""
    origin = f"http://127.0.0.1:{free_port}"
    store = settings.store.model_copy(update={"public_url": origin})
    values = {
        "DATABASE__URL": settings.database.url.get_secret_value(),
        "REDIS__URL": settings.redis.url.get_secret_value(),
        "KEYS__PRIVATE_KEY_FILE": settings.keys.private_key_file,
        "KEYS__TRUSTED_KEYS_DIR": settings.keys.trusted_keys_dir,
        "NEIGHBOURS__SCHEDULER": settings.neighbours.scheduler,
        "NEIGHBOURS__LOGS": settings.neighbours.logs,
        "PUBLIC_URL": origin,
        "SECRET_KEY_FILE": settings.secret_key_file,
        "TOKEN_PEPPER_FILE": settings.token_pepper_file,
        "STORE__TYPE": "local",
        "STORE__PATH": store.path,
        "STORE__SIGNING_KEY": store.signing_key.get_secret_value(),
        "STORE__PUBLIC_URL": origin,
        "GIT__CACHE_DIR": settings.git.cache_dir,
        "UPLOAD_DIR": settings.upload_dir,
        "HTTP__PUBLIC_PORT": free_port,
    }
    environment = {**os.environ, **{f"SLIPWAY_GATEWAY__{name}": str(value) for name, value in values.items()}}
    log = tmp_path / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipway_gateway", "serve"], env=environment, stdout=output, stderr=output
        )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"{origin}/api/v0/server/").status_code == 200:
                break
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.fail(f"the gateway does not answer:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)
    yield origin, process.pid
    process.terminate()
    process.wait(30)


def memory(pid: int) -> tuple[int, int]:
    """Bytes that a process has in memory now, and at most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, most = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def write_package(path: Path, size: int, yaml: str) -> None:
    """A package of at least `size` bytes that does not compress."""
    noise = os.urandom(MIB)
    with gzip.open(path, "wb", compresslevel=0) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        info = tarfile.TarInfo("valohai.yaml")
        info.size = len(yaml)
        archive.addfile(info, io.BytesIO(yaml.encode()))
        for number in range(size // MIB):
            info = tarfile.TarInfo(f"data/{number}.bin")
            info.size = MIB
            archive.addfile(info, io.BytesIO(noise))


async def multipart(path: Path) -> AsyncIterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="data"; filename="data.tgz"\r\n\r\n'
    with path.open("rb") as content:
        while chunk := content.read(MIB):
            yield chunk
    yield b"\r\n--b--\r\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
async def test_package_of_300_mib_does_not_lie_in_memory(served, me, project, settings, tmp_path):
    origin, pid = served
    yaml = "- step: {name: a, image: b, command: c}\n"
    headers = {"authorization": me.headers["authorization"], "content-type": "multipart/form-data; boundary=b"}
    url = f"{origin}{project['url']}import-package/"
    async with httpx.AsyncClient(headers=headers, timeout=240) as client:
        for name, size in (("small", MIB), ("large", PACKAGE_BYTES)):
            file = tmp_path / name
            write_package(file, size, yaml)
            before, _ = memory(pid)
            answer = await client.post(url, content=multipart(file))
            assert answer.status_code == 201, answer.text
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            assert answer.json()["identifier"] == f"~{digest}"
    _, most = memory(pid)
    print(f"memory before {before // MIB} MiB, at most {most // MIB} MiB")
    assert most - before < GROWTH_BYTES
    assert list(settings.upload_dir.iterdir()) == []
