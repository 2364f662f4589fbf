"""What goes into an image, before any registry or engine is asked."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from slipway_builder.images.contents import (
    requirements_file,
    safe_file_path,
    server_argv,
    unpack_code,
    write_metadata,
)
from slipway_builder.images.protocol import BuildError
from slipway_schemas.inference.versions import EndpointSpec


def _archive(path: Path, members: list[tuple[str, bytes, str]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member, io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("/tmp/evil", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "../../outside"),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("hard", tarfile.LNKTYPE, "../../etc/passwd"),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("disk", tarfile.BLKTYPE, ""),
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    archive = _archive(tmp_path / "a.tar.gz", [("main.py", tarfile.REGTYPE, ""), (name, kind, link)])
    with pytest.raises(BuildError, match="cannot be unpacked"):
        unpack_code(archive, tmp_path / "tree" / "code")
    assert {one.name for one in (tmp_path / "tree").rglob("*")} <= {"code", "main.py"}


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(os.urandom(100_000))
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "model", "model")
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(BuildError, match="cannot be unpacked"):
        unpack_code(archive, tmp_path / "code")


def test_the_deployments_own_requirements_win(tmp_path: Path) -> None:
    assert requirements_file(tmp_path) is None
    (tmp_path / "requirements.txt").write_text("a")
    assert requirements_file(tmp_path) == tmp_path / "requirements.txt"
    (tmp_path / "requirements-deployment.txt").write_text("b")
    assert requirements_file(tmp_path) == tmp_path / "requirements-deployment.txt"


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/model",
        "../model",
        "a/../../model",
        "a/",
        "out/model",
        "loop/model",
        "valohai-metadata.json",
        "./valohai-metadata.json",
        ".home/.local/bin/python3",
        "main.py/model",
        "folder",
        "a\0b",
        "a\nb",
    ],
)
def test_file_paths_that_leave_the_tree_or_take_a_place_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "code"
    (root / "folder").mkdir(parents=True)
    (root / "main.py").touch()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to("../code/out")
    with pytest.raises(BuildError):
        safe_file_path(root, path)


def test_a_file_path_follows_links_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "models").symlink_to("data")
    assert safe_file_path(tmp_path, "models/new/m.bin") == tmp_path / "data/new/m.bin"
    assert safe_file_path(tmp_path, "ä b.bin") == tmp_path / "ä b.bin"


def test_metadata_takes_the_place_of_a_link_and_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "valohai-metadata.json").symlink_to("elsewhere")
    write_metadata(tmp_path, {"b": 1, "a": "ü"})
    assert (tmp_path / "valohai-metadata.json").read_text() == '{\n  "a": "ü",\n  "b": 1\n}\n'
    assert (tmp_path / "valohai-metadata.json").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "elsewhere").read_text() == "kept"


@pytest.mark.parametrize(
    ("lines", "script"),
    [
        (("~/.local/bin/uvicorn app:app --port 8000",), "exec ~/.local/bin/uvicorn app:app --port 8000"),
        (("A=1 B=x python3 serve.py",), "A=1 B=x exec python3 serve.py"),
        (("export A=1", "python3 serve.py > log"), "export A=1\nexec python3 serve.py > log"),
        (("cd app && python3 serve.py",), "cd app && python3 serve.py"),
        (("python3 serve.py; echo over",), "python3 serve.py; echo over"),
        (("cd app",), "cd app"),
        (('python3 -c "', 'serve()"'), 'python3 -c "\nserve()"'),
        (("python3 \\", "serve.py"), "python3 \\\nserve.py"),
        (("if true; then", "python3 serve.py", "fi"), "if true; then\npython3 serve.py\nfi"),
        (("cat <<EOF", "text", "EOF"), "cat <<EOF\ntext\nEOF"),
        (("python3 serve.py &", "wait"), "python3 serve.py &\nwait"),
        (("echo 'a;b' c",), "exec echo 'a;b' c"),
        (("serve() { python3 serve.py; }", "serve"), "serve() { python3 serve.py; }\nserve"),
    ],
)
def test_a_single_command_takes_the_shells_place(lines: tuple[str, ...], script: str) -> None:
    spec = EndpointSpec(name="greet", image="python", server_command=lines)
    assert server_argv(spec) == ("/bin/sh", "-c", script)


def test_the_shell_expands_the_home_and_the_command_is_the_process(tmp_path: Path) -> None:
    tool = tmp_path / ".local/bin/serve"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\necho "$$ $WORD $*"\n')
    tool.chmod(0o755)
    spec = EndpointSpec(name="greet", image="python", server_command=("WORD=hello ~/.local/bin/serve 'a b'",))
    process = subprocess.Popen(
        server_argv(spec), env={**os.environ, "HOME": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=10)
    assert output == f"{process.pid} hello a b\n"


def test_wsgi_is_served_on_the_port_of_the_endpoint() -> None:
    argv = server_argv(EndpointSpec(name="greet", image="python", wsgi="pkg.web", port=9001))
    assert argv[:3] == ("python3", "-m", "waitress")
    assert "--listen=0.0.0.0:9001" in argv
    assert argv[-1] == "pkg.web:application"
    assert server_argv(EndpointSpec(name="greet", image="python", wsgi="pkg:app"))[-1] == "pkg:app"
