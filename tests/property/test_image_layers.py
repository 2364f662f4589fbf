"""Layers: the same content gives the same bytes, however it came."""

import io
import random
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_builder.images.code_tree import PlainTree, UnpackedTree, open_code
from slipway_builder.images.layers import Layer, write_layer
from slipway_builder.images.protocol import BuildError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20
)
PATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4).map("/".join)
FILES = st.dictionaries(PATHS, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=12)
WORK = PurePosixPath("valohai")


def _tar(path: Path, files: dict[str, tuple[bytes, bool]], seed: int) -> Path:
    """The files in some order, with some times, owners and modes."""
    chance = random.Random(seed)
    names = sorted(files)
    chance.shuffle(names)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for name in names:
            data, executable = files[name]
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), chance.randrange(10**9)
            member.uid, member.uname = chance.randrange(1000), chance.choice(("", "me"))
            member.mode = chance.choice((0o755, 0o700, 0o777) if executable else (0o644, 0o600, 0o666))
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(zstandard.compress(buffer.getvalue(), chance.choice((1, 9))))
    return path


def _layer(folder: Path, tree: PlainTree | UnpackedTree) -> Layer:
    return write_layer(folder / "layer", tree.entries(WORK), "code")


@settings(deadline=None, max_examples=30)
@given(FILES, st.integers(0, 1000))
def test_order_times_owners_and_the_way_through_the_disk_change_nothing(
    files: dict[str, tuple[bytes, bool]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first, second = _tar(folder / "1", files, 0), _tar(folder / "2", files, seed)
        try:
            on_disk = UnpackedTree(first, folder / "disk")
        except BuildError:
            return  # a file below another file, or a name that the disk does not take
        expected = _layer(folder, on_disk)
        content = (folder / "layer").read_bytes()
        for number, archive in enumerate((first, second)):
            tree = open_code(archive, folder / f"tree{number}")
            assert _layer(folder, tree) == expected  # type: ignore[arg-type]
            assert (folder / "layer").read_bytes() == content
        with tarfile.open(folder / "layer") as tar:
            found = {member.name: member for member in tar}
            assert [*found] == sorted(found, key=lambda name: PurePosixPath(name).parts)
            assert {(one.uid, one.gid, one.mtime, one.uname) for one in found.values()} <= {(10001, 10001, 0, "")}
            for name, (data, executable) in files.items():
                member = found[f"valohai/{PurePosixPath(name)}"]
                source = tar.extractfile(member)
                assert source is not None
                assert (source.read(), member.mode) == (data, 0o755 if executable else 0o644)


def test_large_layers_are_compressed_the_same_way_each_time(tmp_path: Path) -> None:
    tree = PlainTree()
    tree.add(tarfile.TarInfo("model"), random.Random(1).randbytes(1_000_000) * 5)
    first = _layer(tmp_path, tree)
    assert first.descriptor.media_type.endswith("+gzip")
    assert first.descriptor.size < 5_100_000
    assert (tmp_path / "layer").read_bytes()[4:8] == bytes(4)
    assert _layer(tmp_path, tree) == first
    assert first.descriptor.digest != first.diff_id
