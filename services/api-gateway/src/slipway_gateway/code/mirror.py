"""The bare mirror of one project's repository: a cache on the gateway's disk that may be deleted at any time."""

import base64
import shlex
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from slipway_gateway.code.domain import COMMITS_PER_REF, CommitLine, Ref, RefKind
from slipway_gateway.code.git import Git, GitError
from slipway_gateway.code.remotes import DEFAULT_PORTS, Remote, Transport, parse_remote
from slipway_gateway.code.service import Credentials
from slipway_kit.egress import Address, EgressRefused, EgressRules, Network
from slipway_kit.errors import Invalid, Unavailable

MAX_YAML_BYTES = 1024**2
_SUBMODULE_MODE = "160000"
_UNREACHABLE = ("Connection refused", "Failed to connect", "Couldn't connect", "timed out", "Connection reset")


class SnapshotRefused(Invalid):
    """A commit's files cannot be archived, for a reason that lies in the commit."""

    code = "snapshot_refused"


class Mirror:
    """One bare repository and what is read from it."""

    def __init__(self, git: Git, path: Path) -> None:
        self._git = git
        self._path = path

    async def fetch(self, remote: "OpenRemote", *, timeout: float) -> str:
        """Bring branches and tags to where the remote has them; returns the remote's default branch or "".

        Raises `GitError` with a readable message.
        """
        if not (self._path / "HEAD").exists():
            self._path.mkdir(parents=True, exist_ok=True)
            await self._git.run(["init", "--quiet", "--bare", str(self._path)])
        run = partial(
            self._git.run,
            repository=self._path,
            environment=remote.environment,
            config=remote.config,
            timeout=timeout,
        )
        head = await run(["ls-remote", "--symref", "--", remote.url, "HEAD"])
        refspecs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        fetch = ["fetch", "--quiet", "--prune", "--force", "--no-recurse-submodules", "--", remote.url, *refspecs]
        await run(fetch)
        first = head.decode(errors="replace").partition("\n")[0]
        return first.removeprefix("ref: refs/heads/").partition("\t")[0] if first.startswith("ref: ") else ""

    async def refs(self) -> Sequence[Ref]:
        """Branches and tags with the commits they stand at."""
        form = "%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(*objecttype)"
        answer = await self._git.run(
            ["for-each-ref", f"--format={form}", "refs/heads", "refs/tags"], repository=self._path
        )
        refs: list[Ref] = []
        for line in answer.decode(errors="replace").splitlines():
            name, head, kind, peeled, peeled_kind = line.split("\0")
            commit = head if kind == "commit" else peeled if peeled_kind == "commit" else ""
            if commit:
                branch = name.startswith("refs/heads/")
                refs.append(Ref(RefKind.BRANCH if branch else RefKind.TAG, name.split("/", 2)[2], commit))
        return refs

    async def log(self, head: str, *, without: Sequence[str] = (), limit: int = COMMITS_PER_REF) -> list[CommitLine]:
        """The newest commits that `head` reaches and none of `without` does, newest first."""
        revisions = "\n".join([head, *(f"^{sha}" for sha in without)]) + "\n"
        answer = await self._git.run(
            ["log", "--ignore-missing", f"--max-count={limit}", "--format=%H%x1f%ct%x1f%s%x1e", "--stdin"],
            repository=self._path,
            stdin=revisions.encode(),
        )
        lines: list[CommitLine] = []
        for record in answer.decode(errors="replace").split("\x1e"):
            if record.strip():
                sha, seconds, subject = record.strip("\n").split("\x1f", 2)
                lines.append(
                    CommitLine(sha, datetime.fromtimestamp(int(seconds), UTC), subject.replace("\0", "")[:500])
                )
        return lines

    async def has(self, sha: str) -> bool:
        """Whether the mirror holds this commit."""
        if not (self._path / "HEAD").exists():
            return False
        try:
            await self._git.run(["cat-file", "-e", f"{sha}^{{commit}}"], repository=self._path)
        except GitError:
            return False
        return True

    async def file(self, sha: str, path: str) -> bytes | None:
        """A small file of a commit; None when there is none. Raises `SnapshotRefused` when it is large."""
        try:
            size = int(await self._git.run(["cat-file", "-s", f"{sha}:{path}"], repository=self._path))
        except GitError:
            return None
        if size > MAX_YAML_BYTES:
            raise SnapshotRefused(f"The file {path} has {size} bytes; at most {MAX_YAML_BYTES} are read.")
        return await self._git.run(["cat-file", "blob", f"{sha}:{path}"], repository=self._path)

    async def check_archivable(self, sha: str) -> None:
        """Raises `SnapshotRefused` for what a snapshot would lack: submodules and large files outside of git."""
        tree = await self._git.run(["ls-tree", "-r", "-z", "--full-tree", sha], repository=self._path)
        attributes = False
        for entry in tree.decode(errors="replace").split("\0"):
            mode_and_more, _, path = entry.partition("\t")
            if mode_and_more.startswith(_SUBMODULE_MODE):
                raise SnapshotRefused(
                    f"The commit has a submodule at {path}; submodules are not followed. "
                    "Add its files to the repository, or run with --adhoc."
                )
            attributes = attributes or path.rpartition("/")[2] == ".gitattributes"
        if attributes and (path := await self._first_lfs_pointer(sha)):
            raise SnapshotRefused(
                f"The file {path} is kept in Git LFS, which is not followed. "
                "Upload it as an input, or run with --adhoc."
            )

    async def archive(self, sha: str, output: IO[bytes], *, timeout: float) -> None:
        """Write the commit's files as a tar; the same commit gives the same bytes."""
        await self._git.run(["archive", "--format=tar", sha], repository=self._path, output=output, timeout=timeout)

    async def _first_lfs_pointer(self, sha: str) -> str:
        pattern = "^version https://git-lfs.github.com/spec/v1$"
        try:
            answer = await self._git.run(["grep", "-l", "-z", "-I", "-e", pattern, sha, "--"], repository=self._path)
        except GitError:
            return ""
        return answer.decode(errors="replace").partition("\0")[0].partition(":")[2]


class OpenRemote:
    """A remote whose address was checked, with what git needs to reach exactly that address."""

    def __init__(self, url: str, environment: dict[str, str], config: dict[str, str]) -> None:
        self.url = url
        self.environment = environment
        self.config = config


class Remotes:
    """Turns addresses into what git may reach."""

    def __init__(self, state_dir: Path, *, allowed: Sequence[Network], local_paths: Sequence[Path]) -> None:
        self._state_dir = state_dir
        self._egress = EgressRules(allowed)
        self._local_paths = [path.resolve() for path in local_paths]

    def check_local(self, remote: Remote) -> Path | None:
        """The folder behind a local path, links followed. Raises `Invalid` where the operator does not allow it."""
        if remote.path is None:
            return None
        path = remote.path.resolve()
        if not any(path.is_relative_to(allowed) for allowed in self._local_paths):
            raise Invalid(
                "Repositories on the server's own disk are not allowed here. An operator can allow a folder with "
                "SLIPWAY_GATEWAY__GIT__ALLOW_LOCAL_PATHS.",
                field="url",
                code="local_path_refused",
            )
        return path

    @asynccontextmanager
    async def open(self, url: str, credentials: Credentials) -> AsyncIterator[OpenRemote]:
        """Check an address, resolve it once, and pin git to the result. Raises `Invalid` on field `url`."""
        remote = parse_remote(url)
        if remote.transport is Transport.LOCAL:
            path = self.check_local(remote)
            yield OpenRemote(f"file://{path}", {"GIT_ALLOW_PROTOCOL": "file"}, {})
            return
        address = await self._address(remote)
        if remote.transport is Transport.HTTP:
            yield _http(remote, str(address), credentials)
            return
        with tempfile.NamedTemporaryFile(prefix="slipway-key-") as key_file:  # mode 0600
            key_file.write((credentials.private_key or "").encode())
            key_file.flush()
            yield self._ssh(remote, str(address), Path(key_file.name))

    async def _address(self, remote: Remote) -> Address:
        try:
            return await self._egress.resolve(remote.host, remote.port)
        except EgressRefused as error:
            raise Invalid(
                f"The host {remote.host!r} may not be reached. {error.message} It is allowed with "
                "SLIPWAY_GATEWAY__EGRESS__ALLOW_CONTROL_PLANE.",
                field="url",
                code=error.code,
            ) from error
        except Unavailable as error:
            raise Invalid(error.message, field="url", code=error.code) from error

    def _ssh(self, remote: Remote, address: str, key_file: Path) -> OpenRemote:
        self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "15",
            "HostKeyAlias": _host_key_name(remote),
            "HostName": address,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PasswordAuthentication": "no",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": f'"{self._state_dir / "known_hosts"}"',
            "GlobalKnownHostsFile": "/dev/null",
            "ServerAliveInterval": "15",
        }
        words = ["ssh", "-F", "none", "-i", str(key_file)]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        command = shlex.join(words)
        return OpenRemote(remote.url, {"GIT_ALLOW_PROTOCOL": "ssh", "GIT_SSH_COMMAND": command}, {})


def _host_key_name(remote: Remote) -> str:
    """The name in known_hosts, as ssh and ssh-keyscan write it."""
    return remote.host if remote.port == DEFAULT_PORTS["ssh"] else f"[{remote.host}]:{remote.port}"


def _http(remote: Remote, address: str, credentials: Credentials) -> OpenRemote:
    literal = f"[{address}]" if ":" in address else address
    pinned = {} if remote.is_address else {"http.curloptResolve": f"{remote.host}:{remote.port}:{literal}"}
    config = {
        "http.followRedirects": "false",
        **pinned,
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": "60",
        "http.proxy": "",
        "credential.helper": "",
    }
    if credentials.token:
        pair = base64.b64encode(f"{credentials.username}:{credentials.token}".encode()).decode()
        config["http.extraHeader"] = f"Authorization: Basic {pair}"
    return OpenRemote(remote.url, {"GIT_ALLOW_PROTOCOL": urlsplit(remote.url).scheme}, config)


def explain(error: GitError, *, has_key: bool, has_token: bool) -> str:
    """A failed fetch in words that tell what to do."""
    text = error.stderr
    if "Permission denied (publickey" in text:
        return (
            "The host refused the project's deploy key. Add the public key that the repository page shows to the host."
        )
    if "Authentication failed" in text or "could not read Username" in text or "error: 403" in text:
        what = (
            "refused the token: check that it has not expired and may read this repository"
            if has_token
            else ("asks for a login: give the project a token that may read this repository")
        )
        return f"The host {what}."
    if "not found" in text or "does not appear to be a git repository" in text or "Repository not found" in text:
        return f"There is no git repository at this address, or {'the key' if has_key else 'the login'} may not see it."
    if "HOST IDENTIFICATION HAS CHANGED" in text or "Host key verification failed" in text:
        return "The host shows another key than before. If that is right, an operator removes it from known_hosts."
    if "redirect" in text or "error: 30" in text:
        return "The host sends to another address, which is not followed. Link the repository by its final address."
    if any(word in text for word in _UNREACHABLE):
        return f"The host cannot be reached: {error.message}"
    return f"The fetch failed: {error.message}"
