"""Images: appending code to a base inside its registry, beside building it with an engine and pushing it."""

import asyncio
import hashlib
import io
import os
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import psutil
import zstandard

from slipway_builder.images.builders.append import AppendBuilder
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuiltImage, FileSource, ImageRequest, RegistryAccess
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    canonical_json,
    digest_of,
)
from slipway_schemas.inference.versions import EndpointSpec
from slipway_testing.registries import running_registry
from tests.bench.harness import Line, Options, Result, Series, SkippedError, compare

SIZE_VARIABLE = "SLIPWAY_BENCH_IMAGE_MB"
"""Size of the base in MB; the larger base is four times that. 1000 if it is not set, 100 with `--quick`."""
_SMALL_MB = 100
_LAYERS = 4
_CODE_FILES = 200
_CODE_BYTES = 1_600_000
_LARGE_CODE_BYTES = 10_000_000
_MANY = 100
_COMMAND_SECONDS = 900.0


async def images(options: Options) -> Result:
    """`append` against docker and buildah, and against itself on bases of other sizes."""
    base_mb = int(os.environ.get(SIZE_VARIABLE) or (_SMALL_MB if options.quick else 1000))
    large_mb = base_mb * 4
    result = Result(
        "images",
        f"{_CODE_BYTES / 1e6} MB of code in {_CODE_FILES} files onto a base of {base_mb} MB that does not compress, "
        "until the image can be pulled; registry on the loopback",
    )
    async with _bench() as bench:
        for megabytes in sorted({_SMALL_MB, base_mb, large_mb}):
            await bench.push_base(megabytes)
        await bench.append(base_mb)
        docker_cold = partial(bench.docker, base_mb, cold=True)
        docker_warm = partial(bench.docker, base_mb, cold=False)
        buildah = bench.buildah if shutil.which("buildah") else None
        measures = [
            partial(bench.append, base_mb),
            docker_cold,
            docker_warm,
            partial(bench.append, _SMALL_MB),
            partial(bench.append, large_mb),
            *([partial(buildah, base_mb)] if buildah else []),
        ]
        series = await compare(result, measures, options.rounds)
        ours, cold, warm, small, large = series[:5]
        result.lines.append(Line("append", "s", ours, "docker build + push, base only in the registry", cold))
        result.lines.append(Line("append", "s", ours, "docker build + push, base on the machine", warm))
        if buildah:
            result.lines.append(Line("append", "s", ours, "buildah bud + push, base on the machine", series[5]))
        else:
            result.notes.append("buildah is not installed.")
        result.lines.append(Line(f"append to {large_mb} MB", "s", large, f"append to {_SMALL_MB} MB", small))
        count = 20 if options.quick else _MANY
        await bench.spread(result, base_mb, count)
        result.notes.append(
            f"{count} builds of one version in {count} repositories: {await bench.same(base_mb, count)}."
        )
        await bench.copied(result)
        await bench.large_file(result, 1 if options.quick else 10)
        result.notes.append(
            "Less is better here: a ratio of 0.025 is 40 times as fast. Goals: 40 times as fast as docker with a cold "
            "base and 4 times with a warm one, 2.5 times as fast as buildah, at most 1.1 times the time for a base 40 "
            "times as large (of 4 GB), 10 MB of code under 1 s at p99, one digest, flat memory."
        )
    return result


@dataclass
class _Bench:
    access: RegistryAccess
    client: RegistryClient
    builder: AppendBuilder
    folder: Path

    async def push_base(self, megabytes: int) -> None:
        """A base image of incompressible layers; `_layer` says how it is named."""
        repository = f"base-{megabytes}"
        layers = []
        for number in range(_LAYERS):
            layer = _RandomLayer(number, megabytes * 1_000_000 // _LAYERS)
            await self.client.upload_stream(repository, layer.chunks(), layer.digest)
            layers.append(Descriptor(OCI_LAYER, layer.digest(), layer.size))
        config = canonical_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [one.digest for one in layers]},
            }
        )
        await self.client.upload(repository, digest_of(config), config)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, digest_of(config), len(config)).document(),
            "layers": [one.document() for one in layers],
        }
        await self.client.put_manifest(repository, "1", canonical_json(document), OCI_MANIFEST)

    def base(self, megabytes: int) -> str:
        return f"{self.access.host}/base-{megabytes}:1"

    async def append(self, megabytes: int) -> float:
        """Seconds to build an image of code that nobody has seen."""
        return (await self._build(await self._archive(_CODE_BYTES), megabytes))[0]

    async def spread(self, result: Result, megabytes: int, count: int) -> None:
        """The slowest but one of a hundred builds of 10 MB of code, each with other code: `p99`."""
        built = [await self._build(await self._archive(_LARGE_CODE_BYTES), megabytes) for _ in range(count)]
        built.sort(key=lambda one: one[0])
        slow = built[-1 - count // 100]
        what = f"append {_LARGE_CODE_BYTES / 1e6:.0f} MB of code"
        result.lines.append(Line(what, "s", Series(tuple(seconds for seconds, _ in built))))
        result.lines.append(Line(f"{what}, p99 of {count}", "s", Series((slow[0],))))
        for words, one in (("median", built[count // 2]), ("p99", slow)):
            steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in one[1].seconds.items())
            result.notes.append(f"{what}, {words}, by step (they overlap): {steps}.")

    async def copied(self, result: Result) -> None:
        """What the first build on a base from another registry costs more: it is copied, once per digest."""
        with running_registry(self.folder / "elsewhere") as elsewhere:
            access = RegistryAccess(elsewhere.host, plain_http=True)
            client = RegistryClient(access)
            other = _Bench(access, client, self.builder, self.folder)
            await other.push_base(_SMALL_MB)
            await client.aclose()
            archive = await self._archive(_CODE_BYTES)
            (first, _), (second, _) = [
                await self._build(archive, _SMALL_MB, base=other.base(_SMALL_MB), sources=(access,)) for _ in range(2)
            ]
        what = f"append to {_SMALL_MB} MB of another registry"
        result.lines.append(Line(f"{what}, first (copies the base)", "s", Series((first,))))
        result.lines.append(Line(f"{what}, second", "s", Series((second,))))

    async def large_file(self, result: Result, gibibytes: int) -> None:
        """How much more memory this process has in use while a model file goes through it."""
        size = gibibytes * 1024**3
        block = os.urandom(1024**2)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(size // len(block)):
                yield block

        model = FileSource(path="model.bin", size=size, sha256=None, open=chunks)
        me = psutil.Process()
        before, most = me.memory_info().rss, 0
        work = asyncio.create_task(self._build(await self._archive(_CODE_BYTES), _SMALL_MB, files=(model,)))
        while not work.done():
            most = max(most, me.memory_info().rss)
            await asyncio.wait([work], timeout=0.05)
        seconds, _ = work.result()
        what = f"append with a model file of {gibibytes} GiB"
        result.lines.append(Line(f"{what}: memory added", "MiB", Series(((most - before) / 1024**2,))))
        result.notes.append(f"{what}: {seconds:.1f} s, {size / seconds / 1e6:.0f} MB per s.")

    async def same(self, megabytes: int, count: int) -> str:
        """How many digests come of the same version, and the time of one."""
        archive = await self._archive(_CODE_BYTES)
        built = [await self._build(archive, megabytes) for _ in range(count)]
        digests = len({one.digest for _, one in built})
        return (
            f"{digests} digest{'s' if digests > 1 else ''}, {sum(seconds for seconds, _ in built) / count:.2f} s each"
        )

    async def docker(self, megabytes: int, *, cold: bool) -> float:
        """Seconds of `docker build` and `docker push` of code that nobody has seen."""
        base, target = self.base(megabytes), f"{self.access.host}/docker/{uuid4().hex}"
        context = await asyncio.to_thread(_context, self.folder, base)
        if cold:
            await _run("docker", "rmi", "-f", base, check=False)
        else:
            await _run("docker", "pull", "-q", base)
        began = time.perf_counter()
        await _run("docker", "build", "-q", "--no-cache", "-t", target, str(context))
        await _run("docker", "push", "-q", target)
        taken = time.perf_counter() - began
        await _run("docker", "rmi", target)
        if cold:
            await _run("docker", "rmi", "-f", base, check=False)
        shutil.rmtree(context)
        return taken

    async def buildah(self, megabytes: int) -> float:
        """Seconds of `buildah bud` and `buildah push`, with the base in its storage."""
        base, target = self.base(megabytes), f"{self.access.host}/buildah/{uuid4().hex}"
        context = await asyncio.to_thread(_context, self.folder, base)
        where = ("--root", str(self.folder / "buildah"), "--runroot", str(self.folder / "buildah-run"))
        await _run("buildah", *where, "pull", "-q", "--tls-verify=false", base)
        began = time.perf_counter()
        await _run(
            "buildah", *where, "bud", "-q", "--no-cache", "--isolation", "chroot", "--tls-verify=false", "-t", target,
            str(context),
        )  # fmt: skip
        await _run("buildah", *where, "push", "-q", "--tls-verify=false", target)
        taken = time.perf_counter() - began
        await _run("buildah", *where, "rmi", target)
        shutil.rmtree(context)
        return taken

    async def _archive(self, size: int) -> Path:
        return await asyncio.to_thread(_write_archive, self.folder / f"{uuid4().hex}.tar.zst", size)

    async def _build(
        self,
        code: Path,
        megabytes: int,
        *,
        base: str = "",
        files: tuple[FileSource, ...] = (),
        sources: tuple[RegistryAccess, ...] = (),
    ) -> tuple[float, BuiltImage]:
        spec = EndpointSpec(name="greet", image=base or self.base(megabytes), server_command=("serve",))
        request = ImageRequest(
            image_id=uuid4(),
            base=spec.image,
            registry=self.access,
            repository=f"append/{uuid4().hex}",
            code=code,
            files=files,
            metadata={"version": "20260101.0"},
            spec=spec,
            sources=sources,
        )
        began = time.perf_counter()
        built = await self.builder.build(request, lambda line: None)
        return time.perf_counter() - began, built


class _RandomLayer:
    """A layer with one file of random bytes, made while it is sent."""

    def __init__(self, number: int, size: int) -> None:
        member = tarfile.TarInfo(f"random-{number}-{size}")
        member.size = size
        self._head = member.tobuf()
        self._content = size
        self._hash = hashlib.sha256()
        self.size = len(self._head) + size + -size % 512 + 1024

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    async def chunks(self) -> AsyncIterator[bytes]:
        left = self._content
        await asyncio.to_thread(self._hash.update, self._head)
        yield self._head
        while left:
            chunk = await asyncio.to_thread(os.urandom, min(left, 4_000_000))
            left -= len(chunk)
            await asyncio.to_thread(self._hash.update, chunk)
            yield chunk
        end = bytes(-self._content % 512 + 1024)
        self._hash.update(end)
        yield end


@asynccontextmanager
async def _bench() -> AsyncIterator[_Bench]:
    for tool in ("docker", "docker-registry"):
        if shutil.which(tool) is None:
            raise SkippedError(f"{tool} is not installed")
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-images-"))
    try:
        with running_registry(folder / "registry") as registry:
            access = RegistryAccess(registry.host, plain_http=True)
            client, builder = RegistryClient(access), AppendBuilder(BuilderOptions(work_dir=folder, egress=None))
            try:
                yield _Bench(access, client, builder, folder)
            finally:
                await builder.aclose()
                await client.aclose()
                await _run("docker", "rmi", "-f", *await _left(registry.host), check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _source_files(size: int) -> dict[str, bytes]:
    """Text like code: it compresses to about a third, and is new each time."""
    chance = random.Random()
    words = [f"name_{chance.randrange(10**6)}" for _ in range(2000)]
    each = size // _CODE_FILES
    files = {}
    for number in range(_CODE_FILES):
        text = " ".join(chance.choices(words, k=each // 8))[:each]
        files[f"package{number % 10}/module{number}.py"] = text.encode()
    return files


def _write_archive(target: Path, size: int) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in _source_files(size).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    target.write_bytes(zstandard.compress(buffer.getvalue()))
    return target


def _context(folder: Path, base: str) -> Path:
    context = Path(tempfile.mkdtemp(dir=folder))
    for name, data in _source_files(_CODE_BYTES).items():
        file = context / "code" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (context / "Dockerfile").write_text(f'FROM {base}\nWORKDIR /valohai\nCOPY code /valohai\nCMD ["serve"]\n')
    return context


async def _left(host: str) -> list[str]:
    """The engine's images of this registry."""
    return (await _run("docker", "images", "-q", f"{host}/*", check=False)).split() or ["none"]


async def _run(*command: str, check: bool = True) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(_COMMAND_SECONDS):
        output, _ = await process.communicate()
    if check and process.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} failed: {output.decode(errors='replace')[-500:]}")
    return output.decode(errors="replace")
