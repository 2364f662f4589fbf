"""Environments of attempts are made from what the machine has: a private worker reaches no package index."""

import subprocess
from pathlib import Path

import pytest

from slipway_runtime.venvs import VenvPool


async def test_an_environment_has_pip_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    pool = VenvPool(tmp_path / "environments")
    try:
        place = await pool.take("attempt")
        command = [str(place / "bin" / "python"), "-m", "pip", "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert str(place) in said
        assert await pool.take("attempt") == place, "an agent that starts anew finds it"
        await pool.release("attempt")
        assert not place.exists()
    finally:
        await pool.aclose()
