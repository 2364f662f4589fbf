"""`docker`: requirements are installed in a container of the base; and what is built runs."""

import asyncio
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from slipway_builder.images.builders.append import AppendBuilder
from slipway_builder.images.builders.docker import DockerBuilder
from slipway_builder.images.builders.docker_engine import LABEL
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildError, BuiltImage, ImageRequest
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import OCI_MANIFEST, canonical_json, digest_of
from slipway_kit.errors import Unavailable
from slipway_schemas.inference.versions import EndpointSpec
from slipway_testing.conformance.image_builder import ImageBuilderConformance
from slipway_testing.groups import TEST_IMAGE
from slipway_testing.image_requests import DOCUMENT, Requests, access_to, busybox_layer, file_source, push_saved
from slipway_testing.registries import Registry
from tests.api.builder.images.conftest import LookInto

pytestmark = [pytest.mark.registry, pytest.mark.docker]


@pytest.fixture
async def builder(options: BuilderOptions) -> AsyncIterator[DockerBuilder]:
    network = os.environ.get("SLIPWAY_TEST_DOCKER_NETWORK", "host")
    made = DockerBuilder(replace(options, docker_network=network))
    yield made
    await made.aclose()


@pytest.fixture(scope="module", autouse=True)
def _engine_forgets(registry: Registry) -> Iterator[None]:
    """Names that the engine has learnt of this registry go with it."""
    yield
    shown = ("images", "--digests", "--filter", f"reference={registry.host}/*/*", "--format")
    for form in ("{{.Repository}}@{{.Digest}}", "{{.Repository}}:{{.Tag}}"):
        names = {one for one in _docker(*shown, form).split() if "<none>" not in one}
        if names:
            _docker("rmi", *sorted(names))


@pytest.fixture(scope="module")
def python_base(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian with Python and pip, in the registry; its layers are not compressed, which is quicker."""
    saved = tmp_path_factory.mktemp("python") / "image.tar"
    _docker("save", "-o", str(saved), TEST_IMAGE)
    asyncio.run(push_saved(access_to(registry), "bases/python", "bookworm", saved))
    saved.unlink()
    return f"{registry.host}/bases/python:bookworm"


class TestDocker(ImageBuilderConformance):
    """The suite."""


async def test_requirements_are_installed_for_the_endpoints_user(
    builder: DockerBuilder, requests: Requests, python_base: str, look_into: LookInto
) -> None:
    """The same again gives the same digest, also in another repository, where nothing can be found."""
    lines: list[str] = []
    code = {
        "requirements.txt": b"nonsense that is not read\n",
        "requirements-deployment.txt": b"-r more.txt\n",
        "more.txt": b"bottle==0.13.2\n",
        "app.py": b"import bottle\n@bottle.get('/<path:path>')\ndef answer(path): return bottle.__version__\n"
        b"app = bottle.default_app()\n",
    }
    request = requests.make(code=code, base=python_base, spec=_wsgi)
    first = await builder.build(request, lines.append)
    second = await builder.build(replace(request, repository=f"{request.repository}-again"), lines.append)
    assert first.digest == second.digest
    assert any("Successfully installed bottle-0.13.2" in line for line in lines)
    members = (await look_into(first)).members()
    placed = next(name for name in members if name.endswith("-packages/bottle.py"))
    assert placed.startswith("valohai/.home/.local/lib/python3.")
    assert members[placed][0].uid == 10001
    ours = [name for name in members if name.startswith("valohai")]
    assert not any("__pycache__" in name or "/.cache" in name for name in ours)
    with _running(first) as container:
        assert _answer(container, "/a/b") == b"0.13.2"


async def test_wheels_that_append_put_in_place_are_found(
    options: BuilderOptions, requests: Requests, python_base: str, client: RegistryClient
) -> None:
    """No container ran for the build; the base says its Python version, as Python's own images do."""
    manifest = (await client.manifest("bases/python", "bookworm")).document
    config = json.loads(await client.blob("bases/python", manifest["config"]["digest"]))
    config["config"]["Env"] = [*(config["config"].get("Env") or []), "PYTHON_VERSION=3.11.2"]
    raw = canonical_json(config)
    await client.upload("bases/python", digest_of(raw), raw)
    manifest["config"] |= {"digest": digest_of(raw), "size": len(raw)}
    await client.put_manifest("bases/python", "versioned", canonical_json(manifest), OCI_MANIFEST)
    code = {
        "requirements.txt": b"bottle==0.13.2\n",
        "app.py": b"import bottle, importlib.metadata as installed\n"
        b"@bottle.get('/')\ndef answer(): return installed.version('bottle')\n",
    }
    command = "~/.local/bin/bottle --bind 0.0.0.0:8000 app"
    request = requests.make(
        code=code,
        base=python_base.replace("bookworm", "versioned"),
        spec=lambda spec: spec.model_copy(update={"server_command": (command,)}),
    )
    builder = AppendBuilder(options)
    try:
        built = await builder.build(request, _quiet)
    finally:
        await builder.aclose()
    with _running(built) as container:
        assert _answer(container, "/") == b"0.13.2"


async def test_a_requirement_that_does_not_install_is_named(
    builder: DockerBuilder, requests: Requests, python_base: str
) -> None:
    code = {"requirements.txt": b"six\nno-such-distribution-by-slipway==9.9\n"}
    request = requests.make(code=code, base=python_base)
    with pytest.raises(BuildError, match=r"because of no-such-distribution-by-slipway==9\.9") as caught:
        await builder.build(request, _quiet)
    assert "pip said" in caught.value.message
    assert not _containers(request)


async def test_an_image_without_pip_is_named(builder: DockerBuilder, requests: Requests, base: str) -> None:
    with pytest.raises(BuildError, match="no python3 with pip"):
        await builder.build(requests.make(code={"requirements.txt": b"six\n"}), _quiet)


async def test_a_cancelled_installation_leaves_no_container(
    builder: DockerBuilder, requests: Requests, python_base: str
) -> None:
    """A source distribution that never ends its build."""
    backend = b"import time\ntime.sleep(600)\n"
    code = {"requirements.txt": b"./slow\n", "slow/slow.py": backend, "slow/pyproject.toml": _SLOW_PROJECT}
    started = asyncio.Event()

    def listen(line: str) -> None:
        if "Getting requirements to build wheel" in line:
            started.set()

    request = requests.make(code=code, base=python_base)
    task = asyncio.create_task(builder.build(request, listen))
    async with asyncio.timeout(60):
        await started.wait()
    assert _containers(request)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _containers(request)


async def test_a_base_that_only_the_engine_has(builder: DockerBuilder, requests: Requests, tmp_path: Path) -> None:
    local = f"slipway-test/only-here-{os.getpid()}:1"
    (tmp_path / "root.tar").write_bytes(busybox_layer({"etc/here": str(os.getpid()).encode()}))
    _docker("import", str(tmp_path / "root.tar"), local)
    try:
        lines: list[str] = []
        built = await builder.build(requests.make(base=local), lines.append)
        assert any("came from no registry" in line for line in lines)
        again = await builder.build(requests.make(base=local), _quiet)
        assert built.digest == again.digest
    finally:
        _docker("rmi", local)


async def test_what_the_engine_once_pulled_is_not_given_away(
    builder: DockerBuilder, requests: Requests, base: str
) -> None:
    """Another user's private image may lie in the engine; its name must not be enough to get it."""
    local = f"slipway-test/pulled-{os.getpid()}:1"
    _docker("pull", "-q", base)
    _docker("tag", base, local)
    try:
        with pytest.raises((BuildError, Unavailable)):
            await builder.build(requests.make(base=local), _quiet)
    finally:
        _docker("rmi", local, base)


@pytest.mark.parametrize("kind", ["append", "docker"])
async def test_what_is_built_runs_as_the_endpoints_user(
    kind: str, builder: DockerBuilder, options: BuilderOptions, requests: Requests
) -> None:
    used = AppendBuilder(options) if kind == "append" else builder
    code = {
        "serve.sh": b"(id -u; id -g; pwd; echo $HOME; echo $PATH; stat -c %a valohai-metadata.json; stat -c %u ~; "
        b"cat model.bin; touch ~/written) >facts 2>&1\nexec httpd -f -p 8000 -h .\n",
    }
    try:
        built = await used.build(requests.make(code=code, files=(file_source("model.bin", b"weights\n"),)), _quiet)
    finally:
        if used is not builder:
            await used.aclose()
    with _running(built) as container:
        facts = _answer(container, "/facts").decode().splitlines()
        document = json.loads(_answer(container, "/valohai-metadata.json"))
    path = "/valohai/.home/.local/bin:/bin"
    assert facts == ["10001", "10001", "/valohai", "/valohai/.home", path, "444", "10001", "weights"]
    assert document == DOCUMENT


CONTAINERD = (Path("/run/containerd/containerd.sock"), Path("/var/run/docker/containerd/containerd.sock"))


async def test_what_is_built_runs_in_containerd(options: BuilderOptions, requests: Requests) -> None:
    """Pulled by containerd itself, as a Kubernetes node does it, and run with the image's own user and variables."""
    socket = next((one for one in CONTAINERD if one.exists()), None)
    if socket is None or shutil.which("ctr") is None:
        pytest.skip("the engine's containerd is not on this machine")
    builder = AppendBuilder(options)
    spec = EndpointSpec(name="greet", image=requests.base, server_command=("id -u; pwd; echo $HOME; cat model.bin",))
    request = requests.make(files=(file_source("model.bin", b"weights\n"),), spec=lambda _: spec)
    try:
        built = await builder.build(request, _quiet)
    finally:
        await builder.aclose()
    ctr = ("ctr", "--address", str(socket), "--namespace", "slipway-test")
    try:
        await _run(*ctr, "images", "pull", "--plain-http", built.reference)
        answer = await _run(*ctr, "run", "--rm", built.reference, f"slipway-test-{os.getpid()}")
    finally:
        await _run(*ctr, "images", "rm", built.reference)
    assert answer.splitlines() == ["10001", "/valohai", "/valohai/.home", "weights"]


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


_SLOW_PROJECT = b'[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'


def _wsgi(spec: object) -> object:
    return spec.model_copy(update={"wsgi": "app:app", "server_command": ()})  # type: ignore[attr-defined]


def _containers(request: ImageRequest) -> str:
    """What the engine has of this build."""
    return _docker("ps", "-aq", "--filter", f"label={LABEL}={request.image_id}")


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def _running(built: BuiltImage) -> Iterator[str]:
    """Pulled by digest, and run as it is."""
    _docker("pull", "-q", built.reference)
    container = _docker("run", "-d", "--read-only=false", "-p", "127.0.0.1::8000", built.reference)
    try:
        yield container
    finally:
        _docker("rm", "-f", container)
        _docker("rmi", built.reference)


def _answer(container: str, path: str) -> bytes:
    host, _, port = _docker("port", container, "8000/tcp").splitlines()[0].rpartition(":")
    deadline = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
        except OSError:
            assert time.monotonic() < deadline, _docker("logs", container)
            time.sleep(0.05)
        else:
            return body
        finally:
            connection.close()


def _quiet(line: str) -> None:
    pass
