"""Parts of the worker that need no neighbours."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard

from slipway_kit.egress import EgressRules
from slipway_kit.errors import Forbidden
from slipway_runtime import code_archive
from slipway_runtime.code_archive import ArchiveError
from slipway_schemas.executions import Resources
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.workers import Capacity
from slipway_testing.neighbours.platform import make_archive
from slipway_worker.attempts.code_archive import unpack
from slipway_worker.attempts.controls import Controls
from slipway_worker.attempts.outcome import AttemptFailure
from slipway_worker.attempts.stop_condition import StopCondition
from slipway_worker.cache.input_cache import CachedFile, InputCache, place
from slipway_worker.inputs.fetching import safe_name
from slipway_worker.machine.capacity import free_capacity, parse_gpus, pick_gpus
from slipway_worker.outputs.sidecars import read_properties, sidecars_of
from slipway_worker.outputs.walking import FoundFile, SkippedEntry, opened, remove, walk


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("192.168.7.1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
    ],
)
def test_egress_rules(address: str, allowed: bool) -> None:
    rules = EgressRules(["192.168.0.0/16", "169.254.0.0/16"])
    if allowed:
        rules.check(address)
    else:
        with pytest.raises(Forbidden):
            rules.check(address)


def test_controls() -> None:
    controls = Controls.read(
        {"VH_NO_DATA_CACHE": "Yes", "VH_CLEAN": "0", "VH_CPU_LIMIT": "0-2, 5", "VH_DOCKER_NETWORK": "host"}
    )
    assert controls == Controls(no_data_cache=True, cpu_set="0-2,5", host_network=True)
    assert Controls.read({"VH_CPU_LIMIT": "1.5"}).cpus == 1.5
    assert Controls.read({"VH_CPU_LIMIT": "nan"}) == Controls.read({"VH_CPU_LIMIT": "a,b"}) == Controls()


def test_stop_condition() -> None:
    condition = StopCondition("accuracy >= 0.99 and step > 4")
    assert not condition.update({"accuracy": 0.995})
    assert not condition.update({"step": "many"})
    assert not condition.update({"step": 4})
    assert condition.update({"step": 5})
    assert StopCondition("metadata.best-acc > 1").update({"best-acc": 2})
    assert not StopCondition("1 +").update({"a": 1})


def test_code_archive_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.zst"
    archive.write_bytes(make_archive({"main.py": b"print(1)", "pkg/mod.py": b""}))
    assert unpack(archive, tmp_path / "out", "tar.zst") == 2
    assert (tmp_path / "out/main.py").read_bytes() == b"print(1)"
    assert stat.S_IMODE((tmp_path / "out/pkg/mod.py").stat().st_mode) == 0o666


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("/etc/evil", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "../../outside"),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("hard", tarfile.LNKTYPE, "../../outside"),
        ("pipe", tarfile.FIFOTYPE, ""),
    ],
)
def test_archive_members_that_leave_the_tree_are_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = link
        tar.addfile(member)
    archive = tmp_path / "a.tar.zst"
    archive.write_bytes(zstandard.compress(buffer.getvalue()))
    target = tmp_path / "deep" / "out"
    target.mkdir(parents=True)
    with pytest.raises(AttemptFailure):
        unpack(archive, target, "tar.zst")
    assert not (tmp_path / "deep" / "evil").exists()
    assert not Path("/etc/evil").exists()
    assert not (target / "link").is_symlink()
    assert not (target / "pipe").exists()


def test_a_chain_of_links_does_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    """Each link stays inside when its text is read alone; followed, the last one does not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, link in (("a/b/up", "../.."), ("inside", "a/b"), ("outside", "a/b/up/../..")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(buffer.getvalue())
    with pytest.raises(AttemptFailure, match="outside"):
        unpack(archive, tmp_path / "deep" / "out", "tar.gz")
    assert not (tmp_path / "deep" / "out" / "outside").is_symlink()
    assert (tmp_path / "deep" / "out" / "inside").is_symlink()


def test_an_archive_that_grows_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 10**6
            tar.addfile(member, io.BytesIO(bytes(10**6)))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(buffer.getvalue())
    with pytest.raises(ArchiveError, match="more than an archive of code may"):
        code_archive.unpack(archive, tmp_path / "out", "tar.gz", max_bytes=15 * 10**5)
    assert not (tmp_path / "out" / "b").exists()
    assert code_archive.unpack(archive, tmp_path / "all", "tar.gz", max_bytes=2 * 10**6) == 2


def test_broken_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"not an archive")
    with pytest.raises(AttemptFailure) as caught:
        unpack(archive, tmp_path, "tar.gz")
    assert caught.value.reason == EndReason.CODE_UNAVAILABLE


def test_walk_follows_no_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "outputs"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_text("x")
    (root / "linked").symlink_to(outside)
    os.mkfifo(root / "pipe")
    entries = {entry.name: entry for entry in walk(root)}
    assert set(entries) == {"a/b/file", "linked", "pipe"}
    assert isinstance(entries["linked"], SkippedEntry)
    assert isinstance(entries["pipe"], SkippedEntry)
    found = entries["a/b/file"]
    assert isinstance(found, FoundFile)
    with pytest.raises(OSError), opened(root, "linked/secret"):
        pass
    (root / "a/b/file").write_text("longer")
    remove(root, "a/b/file", found.version)
    assert (root / "a/b/file").exists()


def test_sidecars_and_properties(tmp_path: Path) -> None:
    for name, text in {
        "a.txt": "x",
        "a.txt.metadata.json": '{"k": "sidecar", "s": 1}',
        "lonely.metadata.json": "{}",
        "valohai.metadata.jsonl": '{"file": "a.txt", "metadata": {"k": "line", "l": 1}}\n\nnot json\n{"file": 1}\n',
    }.items():
        (tmp_path / name).write_text(text)
    sidecars = sidecars_of([one.name for one in walk(tmp_path)])
    assert sidecars == {"a.txt.metadata.json", "valohai.metadata.jsonl"}
    properties = read_properties(tmp_path, sidecars)
    assert properties.by_name == {"a.txt": {"k": "sidecar", "l": 1, "s": 1}}
    assert len(properties.warnings) == 2
    assert "line 3" in properties.warnings[0]


async def test_cache_keeps_evicts_and_notices_changes(tmp_path: Path) -> None:
    cache = InputCache(tmp_path / "cache", 100, 0.9, 0.5)
    filled: list[str] = []

    async def get(key: str, target: Path | None = None) -> bool:
        async def fill(path: Path) -> CachedFile:
            filled.append(key)
            path.write_bytes(key.encode() * 40)
            return CachedFile(key=key, size=40, md5="", sha1="", sha256="")

        async with cache.entry(key, fill) as (content, _, hit):
            if target is not None:
                place(content, target)
            return hit

    assert not await get("a")
    os.utime(next((tmp_path / "cache").glob("*/*")), (1, 1))
    assert await get("a")
    os.utime(next((tmp_path / "cache").glob("*/*")), (1, 1))
    assert not await get("b")
    assert not await get("c", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"c" * 40
    assert not (tmp_path / "copy").stat().st_mode & 0o222
    assert not await get("a")
    assert filled == ["a", "b", "c", "a"]
    for content in (tmp_path / "cache").glob("*/*/content"):
        content.chmod(0o644)
        content.write_bytes(b"poison")
    assert not await get("a")


@pytest.mark.parametrize(
    ("proposed", "name"), [("a b.csv", "a b.csv"), ("../../etc/x", "x"), ("..", None), ("c:\\dir\\f", "f"), ("", None)]
)
def test_proposed_names(proposed: str, name: str | None) -> None:
    assert safe_name(proposed) == name


def test_capacity_and_gpus() -> None:
    gpus = parse_gpus("0, Tesla T4, 15360\n1, Tesla T4, 15360\nbroken\n")
    assert [gpu.index for gpu in gpus] == [0, 1]
    assert pick_gpus(gpus, [0], 1) == (1,)
    free = free_capacity(Capacity(slots=2, cpus=4, memory_bytes=100, gpus=2), [Resources(cpus=1.5, gpus=1)])
    assert free == Capacity(slots=1, cpus=2.5, memory_bytes=100, gpus=1)
