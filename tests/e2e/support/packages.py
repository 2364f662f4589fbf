"""Code packages, good and bad, as bytes."""

import gzip
import io
import tarfile

YAML = b"- step:\n    name: quick\n    image: slipway-test/python:bookworm\n    command: echo quick\n"


def member(name: str, content: bytes = b"content\n") -> tuple[tarfile.TarInfo, bytes]:
    """A plain file."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic or hard link."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info, b""


def package(*members: tuple[tarfile.TarInfo, bytes], yaml: bytes | None = YAML) -> bytes:
    """A gzip-compressed tar as `vh` sends it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in (*([member("valohai.yaml", yaml)] if yaml is not None else []), *members):
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)
