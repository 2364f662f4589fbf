"""`append` against a real registry."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from slipway_builder.images.builders.append import AppendBuilder
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildError, CannotBuild, FileSource, RegistryAccess
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Manifest,
    canonical_json,
    read_image,
)
from slipway_kit.egress import EgressRules
from slipway_kit.errors import Unavailable
from slipway_testing.conformance.image_builder import ImageBuilderConformance
from slipway_testing.image_requests import Requests, access_to, busybox_layer, file_source, push_image
from slipway_testing.registries import Registry
from tests.api.builder.images.conftest import LookInto

pytestmark = pytest.mark.registry


@pytest.fixture
async def builder(options: BuilderOptions) -> AsyncIterator[AppendBuilder]:
    made = AppendBuilder(options)
    yield made
    await made.aclose()
    assert options.work_dir is not None
    assert list(options.work_dir.iterdir()) == []


class TestAppend(ImageBuilderConformance):
    """The suite."""


def _quiet(line: str) -> None:
    pass


async def test_the_image_says_how_it_is_run(
    builder: AppendBuilder, requests: Requests, look_into: LookInto, client: RegistryClient
) -> None:
    base = await push_image(
        client,
        "bases/busy",
        "1",
        [busybox_layer()],
        {
            "Entrypoint": ["/entry"],
            "User": "root",
            "Env": ["PATH=/opt/bin:/bin", "A=b=c"],
            "Healthcheck": {"Test": ["CMD", "x"]},
            "Labels": {"kept": "yes"},
        },
    )
    built = await builder.build(requests.make(base=f"{requests.access.host}/bases/busy:1"), _quiet)
    image = await look_into(built)
    config = image.config["config"]
    assert built.base_digest == base
    assert "Entrypoint" not in config
    assert "Healthcheck" not in config
    assert config["Cmd"] == list(built.command)
    assert (config["User"], config["WorkingDir"]) == ("10001:10001", "/valohai")
    assert config["Env"] == ["PATH=/valohai/.home/.local/bin:/opt/bin:/bin", "A=b=c", "HOME=/valohai/.home"]
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    assert config["Labels"] == {"kept": "yes"}
    assert image.manifest["annotations"]["org.opencontainers.image.base.digest"] == base
    assert len(image.config["rootfs"]["diff_ids"]) == len(image.manifest["layers"]) == len(image.layers)
    for diff_id, layer in zip(image.config["rootfs"]["diff_ids"], image.layers, strict=True):
        assert diff_id == f"sha256:{sha256(layer).hexdigest()}"
    members = image.members()
    for name in ("valohai", "valohai/.home", "valohai/serve.sh", "valohai/valohai-metadata.json"):
        assert (members[name][0].uid, members[name][0].gid, members[name][0].mtime) == (10001, 10001, 0)
    assert members["valohai/valohai-metadata.json"][0].mode == 0o444


async def test_requirements_are_left_to_another_builder(builder: AppendBuilder, requests: Requests) -> None:
    with pytest.raises(CannotBuild, match="requirements-deployment"):
        await builder.build(requests.make(code={"requirements-deployment.txt": b"numpy\n"}), _quiet)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("markupsafe==3.0.2", "compiled code: MarkupSafe-3.0.2"),
        ("docopt==0.6.2", "wheels alone"),
        ("no-such-distribution-by-slipway", "wheels alone"),
        ("-r other.txt", "more than a name"),
        ("--index-url https://example.com/simple", "more than a name"),
        ("six @ https://example.com/six-1.0-py3-none-any.whl", "more than a name"),
        ("./local", "more than a name"),
        ("six --global-option=x", "more than a name"),
    ],
)
async def test_requirements_that_are_no_plain_wheels_are_left_to_another_builder(
    builder: AppendBuilder, requests: Requests, client: RegistryClient, line: str, reason: str
) -> None:
    await push_image(client, "bases/python", "3.11", [busybox_layer()], {"Env": ["PYTHON_VERSION=3.11.9"]})
    request = requests.make(
        code={"requirements.txt": f"# needed\n{line}\n".encode()}, base=f"{requests.access.host}/bases/python:3.11"
    )
    with pytest.raises(CannotBuild, match=reason):
        await builder.build(request, _quiet)


async def test_pure_wheels_are_a_layer_in_the_users_place(
    builder: AppendBuilder, requests: Requests, client: RegistryClient, look_into: LookInto
) -> None:
    await push_image(client, "bases/python", "3.11", [busybox_layer()], {"Env": ["PYTHON_VERSION=3.11.9"]})
    code = {"requirements.txt": b"bottle == 0.13.2 ; python_version > '3.5'  # small\nsix>=1.16,<2\n"}
    request = requests.make(code=code, base=f"{requests.access.host}/bases/python:3.11")
    first = await builder.build(request, _quiet)
    second = await builder.build(replace(request, repository=f"{request.repository}-again"), _quiet)
    assert first.digest == second.digest
    members = (await look_into(first)).members()
    assert "valohai/.home/.local/lib/python3.11/site-packages/bottle.py" in members
    assert "valohai/.home/.local/lib/python3.11/site-packages/six.py" in members
    index = (await client.manifest(request.repository, first.digest.replace(":", "-"))).document
    (listed,) = index["manifests"]
    referrer = (await client.manifest(request.repository, listed["digest"])).document
    assert referrer["subject"]["digest"] == first.digest
    sbom = json.loads(await client.blob(request.repository, referrer["layers"][0]["digest"]))
    packages = {one["purl"] for one in sbom["components"] if one["type"] == "library"}
    assert "pkg:pypi/bottle@0.13.2" in packages
    assert len(packages) == 2
    assert sbom["components"][0]["version"] == first.base_digest
    script, content = members["valohai/.home/.local/bin/bottle"]
    assert (script.mode, script.uid) == (0o755, 10001)
    assert content.startswith(b"#!/usr/bin/env python3\n")
    assert str(sys.prefix).encode() not in b"".join(data for _, data in members.values())


async def test_onbuild_is_left_to_another_builder(
    builder: AppendBuilder, requests: Requests, client: RegistryClient
) -> None:
    await push_image(client, "bases/onbuild", "1", [busybox_layer()], {"OnBuild": ["RUN true"]})
    with pytest.raises(CannotBuild, match="ONBUILD"):
        await builder.build(requests.make(base=f"{requests.access.host}/bases/onbuild:1"), _quiet)


async def test_wsgi_brings_its_server(builder: AppendBuilder, requests: Requests, look_into: LookInto) -> None:
    request = requests.make(spec=lambda spec: spec.model_copy(update={"wsgi": "app:app", "server_command": ()}))
    image = await look_into(await builder.build(request, _quiet))
    assert "valohai/.home/.slipway/waitress/__main__.py" in image.members()
    assert "PYTHONPATH=/valohai/.home/.slipway" in image.config["config"]["Env"]


async def test_large_files_are_layers_of_their_own_and_stay(
    builder: AppendBuilder, requests: Requests, look_into: LookInto
) -> None:
    large, other = file_source("a.bin", os.urandom(9_000_000)), file_source("b.bin", os.urandom(9_000_000))
    small = (file_source("c.bin", b"c"), file_source("d.bin", b"d"))
    first = await look_into(await builder.build(requests.make(files=(large, other, *small)), _quiet))
    changed = requests.make(files=(large, replace(large, path="b.bin"), *small))
    second = await look_into(await builder.build(changed, _quiet))
    assert len(first.layers) == len(second.layers) == 1 + 3 + 2
    same = [one == two for one, two in zip(first.layers, second.layers, strict=True)]
    assert same == [True, True, False, True, True, True]


async def test_a_file_that_the_registry_has_is_not_read_again(builder: AppendBuilder, requests: Requests) -> None:
    data = os.urandom(200_000)
    opened: list[int] = []

    def open_file() -> AsyncIterator[bytes]:
        opened.append(1)
        return source.open()

    source = file_source("model.bin", data)
    counted = replace(source, open=open_file)
    first = requests.make(files=(counted,))
    await builder.build(first, _quiet)
    other_code = requests.make(files=(counted,), code={"serve.sh": b"other"}, repository=first.repository)
    built = await builder.build(other_code, _quiet)
    assert len(opened) == 1
    assert built.pushed < 100_000
    await builder.build(requests.make(files=(counted,)), _quiet)
    assert len(opened) == 2


async def test_a_base_from_another_registry_is_copied_once(
    builder: AppendBuilder,
    requests: Requests,
    client: RegistryClient,
    secure_registry: Registry,
    foreign_base: str,
    look_into: LookInto,
) -> None:
    requests.sources = (access_to(secure_registry),)
    lines: list[str] = []
    group = f"copies{os.getpid()}"
    made = await asyncio.gather(
        *(
            builder.build(requests.make(base=foreign_base, repository=f"{group}/{number}"), lines.append)
            for number in range(3)
        )
    )
    assert len({one.digest for one in made}) == 1
    assert sum("Copying" in line for line in lines) == 1
    assert await client.tags(f"{group}/bases") == [made[0].base_digest.replace(":", "-")]
    assert (await look_into(made[0])).members()["etc/foreign"][1] == b"yes"


async def test_a_base_that_is_read_from_an_index(
    builder: AppendBuilder, requests: Requests, client: RegistryClient
) -> None:
    digest = await push_image(client, "bases/many", "amd64", [busybox_layer()])
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": len((await client.manifest("bases/many", digest)).raw),
                "platform": {"os": "linux", "architecture": "amd64"},
            }
        ],
    }
    await client.put_manifest("bases/many", "all", canonical_json(index), OCI_INDEX)
    base = f"{requests.access.host}/bases/many:all"
    assert (await builder.build(requests.make(base=base), _quiet)).base_digest == digest
    with pytest.raises(BuildError, match=r"linux/arm64.*linux/amd64"):
        await builder.build(replace(requests.make(base=base), platform="linux/arm64"), _quiet)


async def test_a_registry_that_is_not_trusted_or_away(
    builder: AppendBuilder, requests: Requests, secure_registry: Registry, foreign_base: str, free_port: int
) -> None:
    requests.sources = (replace(access_to(secure_registry), ca_file=None),)
    with pytest.raises(Unavailable, match="not trusted"):
        await builder.build(requests.make(base=foreign_base), _quiet)
    away = RegistryAccess(f"127.0.0.1:{free_port}", plain_http=True)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await builder.build(replace(requests.make(), registry=away, base=f"{away.host}/x"), _quiet)


async def test_a_wrong_password_is_named(
    builder: AppendBuilder, requests: Requests, secure_registry: Registry, foreign_base: str
) -> None:
    requests.sources = (replace(access_to(secure_registry), password="wrong"),)
    with pytest.raises(BuildError, match="login slipway"):
        await builder.build(requests.make(base=foreign_base), _quiet)


async def test_images_of_other_deployments_are_no_bases(builder: AppendBuilder, requests: Requests) -> None:
    """The target's login could read them; the user may not."""
    other = await builder.build(requests.make(repository="tests/somebody-elses"), _quiet)
    with pytest.raises(BuildError, match="platform's own"):
        await builder.build(requests.make(base=other.reference), _quiet)
    with pytest.raises(BuildError, match="platform's own"):
        await builder.build(requests.make(base=f"{requests.access.host}/tests/bases:1"), _quiet)


def test_a_manifest_that_names_more_than_digests() -> None:
    """A digest becomes part of addresses; this one would mount from another repository."""
    manifest = Manifest(OCI_MANIFEST, "", b"")
    for digest in ("sha256:" + "a" * 64 + "&from=secret", "sha256:../../secret", "md5:" + "a" * 32):
        layer = {"mediaType": OCI_LAYER, "digest": digest, "size": 1}
        document = {"config": {"digest": "sha256:" + "a" * 64, "size": 1}, "layers": [layer]}
        with pytest.raises(BuildError, match="not a sha256 digest"):
            read_image(replace(manifest, raw=canonical_json(document)), "evil")


async def test_a_base_in_a_network_that_is_not_allowed(
    options: BuilderOptions, requests: Requests, foreign_base: str
) -> None:
    builder = AppendBuilder(replace(options, egress=EgressRules()))
    try:
        with pytest.raises(BuildError, match="may not be reached"):
            await builder.build(requests.make(base=foreign_base), _quiet)
    finally:
        await builder.aclose()


async def test_the_push_goes_to_a_registry_with_tls_and_a_login(
    builder: AppendBuilder, requests: Requests, secure_registry: Registry, secure_client: RegistryClient, base: str
) -> None:
    """And the base comes from another one, which has neither."""
    requests.sources = (requests.access,)
    requests.access = access_to(secure_registry)
    built = await builder.build(requests.make(base=base, repository="pushed/one"), _quiet)
    assert (await secure_client.manifest("pushed/one", built.digest)).digest == built.digest


MEASURE = """
import asyncio, resource, sys
from pathlib import Path
from slipway_builder.images.builders.append import AppendBuilder
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import FileSource, RegistryAccess
from slipway_testing.image_requests import Requests

async def chunks(path):
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk

async def main(host, base, folder, size):
    builder = AppendBuilder(BuilderOptions(work_dir=Path(folder)))
    requests = Requests(RegistryAccess(host, plain_http=True), base, Path(folder))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = Path(folder) / "model"
    files = (FileSource("model.bin", int(size), None, lambda: chunks(model)),)
    await builder.build(requests.make(files=files), lambda line: None)
    await builder.aclose()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(1800)
async def test_memory_stays_flat_with_a_large_file(requests: Requests, base: str, tmp_path: Path) -> None:
    """200 MB here; 10 GiB with SLIPWAY_CHAOS=full. What is allowed does not depend on the size."""
    size = 10 * 1024**3 if os.environ.get("SLIPWAY_CHAOS") == "full" else 200_000_000
    with (tmp_path / "model").open("wb") as file:
        file.truncate(size)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURE, requests.access.host, base, str(tmp_path), str(size), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert int(output) < 40_000, f"the build of a {size} byte file took {int(output)} KiB more memory"


async def test_a_file_that_grows_while_it_is_read(builder: AppendBuilder, requests: Requests) -> None:
    longer = file_source("model.bin", b"x" * 3000, size=2000)
    with pytest.raises(Unavailable, match="2000 bytes"):
        await builder.build(requests.make(files=(longer,)), _quiet)


async def test_a_file_with_other_content_than_its_datum(builder: AppendBuilder, requests: Requests) -> None:
    good = file_source("model.bin", b"good")
    evil = file_source("model.bin", b"evil")
    with pytest.raises(Unavailable, match="content"):
        await builder.build(requests.make(files=(FileSource("model.bin", 4, good.sha256, evil.open),)), _quiet)
