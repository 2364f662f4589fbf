"""The process that looks into an uploaded package: standard library only, limited in memory and time.

Usage: package_check.py PACKAGE YAML_PATH. Prints `{"yaml": base64}` or `{"field", "message", "code"}` as JSON.
Nothing is ever extracted.
"""

import base64
import gzip
import json
import posixpath
import resource
import sys
import tarfile
import zlib

MEMORY_BYTES = 512 * 1024**2
CPU_SECONDS = 120
MAX_MEMBERS = 10_000
"""As many as clients send."""
MAX_TOTAL_BYTES = 4 * 1024**3
"""Twice what clients send."""
MAX_YAML_BYTES = 1024**2
MAX_DEPTH = 100
MAX_PADDING_BYTES = 16 * 1024**2


class RefusedError(Exception):
    """The package is not taken."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = {"field": field, "code": code, "message": message}


def check(package: str, yaml_path: str) -> bytes:
    """The content of the YAML file. Raises `RefusedError`."""
    wanted = posixpath.normpath(yaml_path)
    found: bytes | None = None
    total = 0
    links: dict[str, str] = {}
    names: list[str] = []
    try:
        with gzip.open(package) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for number, member in enumerate(archive, start=1):
                if number > MAX_MEMBERS:
                    raise RefusedError("data", "too_many_members", f"The package has more than {MAX_MEMBERS} members.")
                check_member(member)
                names.append(member.name)
                if member.issym():
                    links[posixpath.normpath(member.name)] = member.linkname
                total += member.size
                if total > MAX_TOTAL_BYTES:
                    raise RefusedError("data", "too_large", "The package unpacks to more than 4 GiB.")
                if member.isfile() and posixpath.normpath(member.name) == wanted:
                    found = read_yaml(archive, member)
            drain(unpacked)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        message = f"The package is truncated or not a gzip-compressed tar: {error}. Send it again."
        raise RefusedError("data", "invalid_package", message) from error
    check_through_links(names, links)
    if found is None:
        raise RefusedError("yaml_path", "does_not_exist", f"The package has no file {yaml_path}.")
    return found


def drain(unpacked: gzip.GzipFile) -> None:
    """Read to the end, where gzip's checksum is: without that a package cut in its last bytes would pass."""
    padding = 0
    while chunk := unpacked.read(1024**2):
        padding += len(chunk)
        if padding > MAX_PADDING_BYTES:
            raise RefusedError("data", "invalid_package", "The package has more than 16 MiB after its last member.")


def check_member(member: tarfile.TarInfo) -> None:
    """Raises `RefusedError` for a member that could leave the tree, or is neither file, folder nor link."""
    name = member.name
    if leaves(name) or name.count("/") > MAX_DEPTH:
        raise unsafe(name, "its path leaves the package")
    if member.issym():
        if member.linkname.startswith("/") or leaves(posixpath.join(posixpath.dirname(name), member.linkname)):
            raise unsafe(name, f"it links to {member.linkname[:200]!r} outside of the package")
    elif member.islnk():
        if leaves(member.linkname):
            raise unsafe(name, f"it links to {member.linkname[:200]!r} outside of the package")
    elif not (member.isfile() or member.isdir()):
        raise unsafe(name, "it is a device, a pipe or of an unknown kind")


def check_through_links(names: list[str], links: dict[str, str]) -> None:
    """Raises `RefusedError` for paths that pass through a link, which a check of the text alone cannot follow."""
    if not links:
        return
    for name in names:
        if passes_through(name, links):
            raise unsafe(name, "its path goes through a link")
    for name, target in links.items():
        path = posixpath.join(posixpath.dirname(name), target)
        if ".." in target.split("/") and passes_through(path, links):
            raise unsafe(name, f"it links to {target[:200]!r}, which goes up through another link")


def passes_through(path: str, links: dict[str, str]) -> bool:
    """Whether a folder on the way to `path` is a link."""
    parts = path.split("/")[:-1]
    return any(posixpath.normpath("/".join(parts[:end])) in links for end in range(1, len(parts) + 1))


def leaves(path: str) -> bool:
    """Whether a path is absolute or goes up out of the folder that it starts in, at any point."""
    if not path or path.startswith("/") or "\0" in path or "\\" in path:
        return True
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def unsafe(name: str, why: str) -> RefusedError:
    """The refusal of one member."""
    return RefusedError("data", "unsafe_member", f"The package is refused because of {name[:200]!r}: {why}.")


def read_yaml(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of the YAML member."""
    if member.size > MAX_YAML_BYTES:
        raise RefusedError("yaml_path", "too_large", f"{member.name} has more than {MAX_YAML_BYTES} bytes.")
    stream = archive.extractfile(member)
    return b"" if stream is None else stream.read()


def main() -> None:
    """Check the package that the arguments name and print the result."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        answer = {"yaml": base64.b64encode(check(sys.argv[1], sys.argv[2])).decode()}
    except RefusedError as error:
        answer = error.answer
    except (MemoryError, RecursionError):
        answer = {"field": "data", "code": "invalid_package", "message": "The package's headers are too large."}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
