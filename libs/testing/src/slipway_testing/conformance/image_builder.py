"""What every `ImageBuilder` does, whoever provides it.

A test module subclasses `ImageBuilderConformance` as a class named `Test...` and gives the fixtures `builder`,
`requests` (with a base image that has a shell), `read` (the bytes of a file of a built image, below the work
directory) and `denied` (a base image that may not be pulled).
"""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from slipway_builder.images.protocol import BuildError, BuiltImage, FileSource, ImageBuilder
from slipway_kit.errors import Unavailable
from slipway_schemas.inference.versions import EndpointSpec
from slipway_testing.image_requests import DOCUMENT, Requests, code_archive, file_source

Read = Callable[[BuiltImage, str], Awaitable[bytes]]


class ImageBuilderConformance:
    """Same in, same out; what is wrong is said; nothing leaves the tree."""

    async def test_the_same_request_gives_the_same_digest(
        self, builder: ImageBuilder, requests: Requests, tmp_path: Path
    ) -> None:
        """Also in another repository, from another copy of the archive, at another time."""
        lines: list[str] = []
        files = (file_source("model.bin", b"weights"),)
        first = await builder.build(requests.make(code={"a": b"1", "b/c": b"2"}, files=files), lines.append)
        other = code_archive(tmp_path / "again.tar.gz", {"b/c": b"2", "a": b"1"}, mtime=1_000_000)
        second = await builder.build(requests.make(code=other, files=files), lines.append)
        assert first.digest == second.digest
        assert first.base_digest == second.base_digest
        assert first.reference.endswith(f"@{first.digest}")
        assert lines

    async def test_the_same_repository_gets_one_image(self, builder: ImageBuilder, requests: Requests) -> None:
        request = requests.make(files=(file_source("model.bin", b"weights"),))
        first = await builder.build(request, _quiet)
        second = await builder.build(request, _quiet)
        assert (first.reference, first.command) == (second.reference, second.command)
        assert second.pushed == 0
        assert first.size == second.size

    async def test_anything_else_gives_another_digest(self, builder: ImageBuilder, requests: Requests) -> None:
        plain = await builder.build(requests.make(), _quiet)
        others = [
            requests.make(code={"serve.sh": b"exec httpd -f -p 8001 -h .\n"}),
            requests.make(files=(file_source("model.bin", b"weights"),)),
            requests.make(files=(file_source("model.bin", b"heavier"),)),
            requests.make(metadata={**DOCUMENT, "version": "20260101.1"}),
            requests.make(spec=_on_port(8001)),
        ]
        digests = [(await builder.build(one, _quiet)).digest for one in others]
        assert len({plain.digest, *digests}) == 1 + len(others)

    async def test_everything_is_at_its_place(self, builder: ImageBuilder, requests: Requests, read: Read) -> None:
        code = {"serve.sh": b"true", "pkg/ä b.py": b"code", "pkg/old.bin": b"old", "valohai-metadata.json": b"{}"}
        files = (file_source("pkg/old.bin", b"new" * 100), file_source("deep/er/model.bin", b"weights"))
        built = await builder.build(requests.make(code=code, files=files), _quiet)
        assert await read(built, "serve.sh") == b"true"
        assert await read(built, "pkg/ä b.py") == b"code"
        assert await read(built, "pkg/old.bin") == b"new" * 100
        assert await read(built, "deep/er/model.bin") == b"weights"
        assert json.loads(await read(built, "valohai-metadata.json")) == DOCUMENT

    async def test_the_command_is_the_endpoints(self, builder: ImageBuilder, requests: Requests) -> None:
        built = await builder.build(requests.make(), _quiet)
        assert built.command == ("/bin/sh", "-c", "exec sh serve.sh")

    @pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "", "out/evil", "valohai-metadata.json"])
    async def test_a_file_path_that_leaves_the_tree(self, builder: ImageBuilder, requests: Requests, path: str) -> None:
        code = {"serve.sh": b"true"} if path != "out/evil" else {"out": b"a file"}
        with pytest.raises(BuildError, match="file path"):
            await builder.build(requests.make(code=code, files=(file_source(path, b"x"),)), _quiet)

    async def test_a_hostile_archive(self, builder: ImageBuilder, requests: Requests, tmp_path: Path) -> None:
        archive = code_archive(tmp_path / "evil.tar.gz", {"../evil": b"x"})
        with pytest.raises(BuildError, match="leave the tree"):
            await builder.build(requests.make(code=archive), _quiet)

    async def test_a_base_that_does_not_exist(self, builder: ImageBuilder, requests: Requests) -> None:
        base = f"{requests.access.host}/nowhere/missing:1.2"
        with pytest.raises(BuildError, match=r"nowhere/missing:1\.2"):
            await builder.build(requests.make(base=base), _quiet)

    async def test_a_base_that_is_denied(self, builder: ImageBuilder, requests: Requests, denied: str) -> None:
        with pytest.raises(BuildError, match=r"login|everybody"):
            await builder.build(requests.make(base=denied), _quiet)

    @pytest.mark.parametrize("base", ["", "Not An Image", "a:b:c", "python@sha256:short", "../python"])
    async def test_a_base_that_is_no_image(self, builder: ImageBuilder, requests: Requests, base: str) -> None:
        with pytest.raises(BuildError, match="cannot be read"):
            await builder.build(dataclasses.replace(requests.make(), base=base), _quiet)

    async def test_a_file_that_is_cut_short(self, builder: ImageBuilder, requests: Requests) -> None:
        with pytest.raises(Unavailable, match=r"model\.bin"):
            await builder.build(requests.make(files=(file_source("model.bin", b"half", size=8),)), _quiet)

    async def test_a_cancelled_build_can_be_done_again(self, builder: ImageBuilder, requests: Requests) -> None:
        reading = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b"x" * 100
            reading.set()
            await asyncio.Event().wait()

        whole = file_source("model.bin", b"x" * 200)
        request = requests.make(files=(FileSource(whole.path, whole.size, whole.sha256, endless),))
        task = asyncio.create_task(builder.build(request, _quiet))
        async with asyncio.timeout(60):
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        built = await builder.build(dataclasses.replace(request, files=(whole,)), _quiet)
        assert built.digest.startswith("sha256:")


def _on_port(port: int) -> Callable[[EndpointSpec], EndpointSpec]:
    return lambda spec: spec.model_copy(update={"port": port})


def _quiet(line: str) -> None:
    """Nobody reads along."""
