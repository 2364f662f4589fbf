"""No address that users can write, no redirect and no changing name leads to a machine that is not public.

A canary listens on every address of this machine. Inputs go the worker's way, repositories the gateway's.
"""

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from slipway_gateway.code.git import Git, GitError
from slipway_gateway.code.mirror import Mirror, Remotes
from slipway_gateway.code.service import Credentials
from slipway_kit.egress import EgressRefused, EgressRules
from slipway_kit.errors import SlipwayError
from slipway_kit.transfer import TRANSFER_ERRORS, transfer_session

pytestmark = pytest.mark.sockets
"""What is tested is where connections go."""

ALLOWED = "127.0.0.2"
"""The one address that the tests with redirects allow."""


class Server:
    """Answers everything with `answer`'s status and headers, and remembers what was asked."""

    def __init__(self, address: str, *, family: int = socket.AF_INET, port: int = 0) -> None:
        self.hits: list[str] = []
        self.redirect = ""
        self.status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.hits.append(self.path)
                self.send_response(server.status)
                if server.redirect:
                    self.send_header("Location", server.redirect)
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"canary")

            do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True

        self._server = Listener((address, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def canary() -> Iterator[Server]:
    """On the loopback and on every other address of this machine, IPv6 included."""
    server = Server("::", family=socket.AF_INET6)
    yield server
    server.close()


@pytest.fixture
def redirector(canary: Server) -> Iterator[Server]:
    """On the allowed address. At its port the loopback has a canary too, for names that change their address."""
    server = Server(ALLOWED)
    beside = Server("127.0.0.1", port=server.port)
    beside.hits = canary.hits
    yield server
    beside.close()
    server.close()


def own_addresses() -> list[str]:
    """Addresses of this machine beyond the loopback."""
    found = [one.address for addresses in psutil.net_if_addrs().values() for one in addresses]
    kept = []
    for address in found:
        with contextlib.suppress(ValueError):
            parsed = ip_address(address.partition("%")[0])
            if not parsed.is_loopback and not parsed.is_global:
                kept.append(f"[{parsed}]" if parsed.version == 6 else str(parsed))
    return kept


def forms_of(address: IPv4Address) -> list[str]:
    """One IPv4 address in all writings that some library takes."""
    number, parts = int(address), address.packed
    low = number & 0xFFFFFF
    six = f"{parts[0]:02x}{parts[1]:02x}:{parts[2]:02x}{parts[3]:02x}"
    return [
        *(str(address), f"{address}.", str(number), hex(number), f"0{number:o}", f"{parts[0]}.{low}"),
        *(".".join(f"0{part:o}" for part in parts), ".".join(hex(part) for part in parts)),
        *(f"{hex(parts[0])}.{low}", f"0{parts[0]:o}.{low}", f"{parts[0]}.{parts[1]}.{low & 0xFFFF}"),
        *(".".join(f"{part:03d}" for part in parts), ".".join(f"{hex(part)[:2]}000{part:x}" for part in parts)),
        *(f"[::ffff:{address}]", f"[::ffff:{six}]", f"[0:0:0:0:0:ffff:{six}]", f"[::{address}]", f"[::{six}]"),
        *(f"[64:ff9b::{six}]", f"[64:ff9b::{address}]", f"[64:ff9b:1::{address}]", f"[2002:{six}::]"),
        *(f"[2002:{six}::1]", f"[::ffff:0:{six}]", f"[fe80::5efe:{six}]", f"[2001:0:{six}::]"),
        *(str(address).replace(".", "。"), str(address).replace(".", "\uff0e"), str(address).replace("1", "①")),
        *(quote(str(address)).replace(".", "%2e"), f"{address}%00.example.com", f"{address}%09"),
    ]


def corpus(port: int) -> list[str]:
    """URLs that lead, or may lead, to the canary."""
    hosts = [
        *forms_of(IPv4Address("127.0.0.1")),
        *forms_of(IPv4Address("169.254.169.254")),
        *("localhost", "LOCALHOST", "localhost.", "LocalHost", "127.127.127.127", "127.1", "127.255.255.254"),
        *(
            "0",
            "0.0.0.0",
            "00",
            "0x0",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[0000::1]",
            "[::1%25lo]",
            "[fe80::1%25lo]",
        ),
        *("127.0.0.1.nip.test", "localtest.test", "both.test", "mapped.test", "ⓛocalhost", "loc\u00adalhost"),
        *("10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]"),
        *own_addresses(),
    ]
    plain = [f"http://{host}:{port}/canary" for host in hosts]
    tricks = [
        f"http://example.com@127.0.0.1:{port}/",
        f"http://example.com:80@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@example.com/",
        f"http://127.0.0.1:{port}\\@example.com/",
        f"http://example.com\\@127.0.0.1:{port}/",
        f"http:/\\127.0.0.1:{port}/",
        f"http:////127.0.0.1:{port}/",
        f"http:127.0.0.1:{port}/",
        f"//127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}%20.example.com/",
        f"http://[::ffff:127.0.0.1]:{port}@example.com/",
        f"https://127.0.0.1:{port}/",
        f"HTTP://127.0.0.1:{port}/",
        f" http://127.0.0.1:{port}/",
        f"http://127.0.0.1\t:{port}/",
        f"http://127.0.0.1:{port}/\r\nHost: example.com",
        *(
            f"{scheme}://127.0.0.1:{port}/canary"
            for scheme in (
                "ftp",
                "gopher",
                "dict",
                "ldap",
                "git",
                "svn",
                "ssh",
                "git+ssh",
                "tftp",
                "ws",
                "jar",
                "rsync",
            )
        ),
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        f"ext::sh -c 'curl http://127.0.0.1:{port}/'",
        f"http::http://127.0.0.1:{port}/",
        f"git@127.0.0.1:{port}/x",
        f"-u http://127.0.0.1:{port}/",
        f"--upload-pack=curl http://127.0.0.1:{port}/",
    ]
    return [*plain, *tricks]


NAMES = {
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "localtest.test": ["::1"],
    "both.test": [ALLOWED, "127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "allowed.test": [ALLOWED],
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that are answered here: lists are given whole, iterators answer anew at each question."""
    known: dict[str, Any] = dict(NAMES)
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        found = known.get(name)
        if found is None:
            return real(host, port, *arguments, **options)
        addresses = found if isinstance(found, list) else next(found)
        return [entry for address in addresses for entry in real(address, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


async def fetch_input(url: str, rules: EgressRules) -> str:
    """What the worker does with the URL of an input: how it ended."""
    async with transfer_session(egress=rules, idle_seconds=5) as session:
        try:
            async with asyncio.timeout(5), session.get(url) as answer:
                return f"{answer.status} {(await answer.read())[:20]!r}"
        except EgressRefused:
            return "refused"
        except (*TRANSFER_ERRORS, SlipwayError, ValueError, OSError, UnicodeError) as error:
            return type(error).__name__


async def fetch_repository(url: str, rules: list[str], directory: Path) -> str:
    """What the gateway does with the address of a repository: how it ended."""
    remotes = Remotes(directory / "state", allowed=[*rules], local_paths=[])  # type: ignore[list-item]
    mirror = Mirror(Git(directory / "git", trust_local=False), directory / "mirror")
    try:
        async with remotes.open(url, Credentials("git")) as remote:
            await mirror.fetch(remote, timeout=10)
    except GitError as error:
        return f"git: {error.message}"
    except SlipwayError as error:
        return error.code
    return "fetched"


async def test_nothing_leads_inside(canary: Server, names: dict[str, Any], tmp_path: Path) -> None:
    urls = corpus(canary.port)
    assert len(urls) >= 120
    ends: dict[str, int] = {}
    for url in urls:
        for end in (await fetch_input(url, EgressRules()), await fetch_repository(url, [], tmp_path)):
            assert "canary" not in end, url
            assert end != "fetched", url
            ends[end] = ends.get(end, 0) + 1
    print(f"{len(urls)} addresses x 2 entry points: {len(canary.hits)} hits; {ends}")
    assert canary.hits == []
    assert ends["refused"] > 40
    assert ends["egress_refused"] > 10


async def test_the_canary_can_be_hit(canary: Server, names: dict[str, Any], tmp_path: Path) -> None:
    """Where the loopback is allowed, both ways lead to it: so the test above can fail."""
    url = f"http://127.0.0.1:{canary.port}/canary"
    assert "canary" in await fetch_input(url, EgressRules(["127.0.0.0/8"]))
    before = len(canary.hits)
    await fetch_repository(url, ["127.0.0.0/8"], tmp_path)
    assert len(canary.hits) > before


async def test_no_redirect_leads_inside(
    canary: Server, redirector: Server, names: dict[str, Any], tmp_path: Path
) -> None:
    start = f"http://allowed.test:{redirector.port}/start"
    for number, url in enumerate(corpus(canary.port)):
        if any(ord(char) < 0x21 for char in url) or not url.isascii():
            continue
        redirector.redirect, redirector.status = url, (301, 302, 303, 307, 308)[number % 5]
        end = await fetch_input(start, EgressRules([f"{ALLOWED}/32"]))
        assert not end.startswith("200"), (url, end)
        if number % 10 == 0:
            assert await fetch_repository(start, [f"{ALLOWED}/32"], tmp_path) != "fetched", url
    print(f"{len(redirector.hits)} redirects: {len(canary.hits)} hits")
    assert len(redirector.hits) > 80, "the redirects were not followed at all"
    assert canary.hits == []


async def test_a_name_that_changes_its_answer_leads_nowhere_else(
    canary: Server, redirector: Server, names: dict[str, Any], tmp_path: Path
) -> None:
    """Rebinding: the name is allowed when it is checked and is the canary's a moment later."""
    reached = 0
    for phase in range(4):
        for answers in ([[ALLOWED], ["127.0.0.1"]], [["127.0.0.1"], [ALLOWED]], [[ALLOWED], [ALLOWED, "127.0.0.1"]]):
            for start in (fetch_input, fetch_repository):
                turn = itertools.cycle(answers)
                for _ in range(phase):
                    next(turn)
                names["rebind.test"] = turn
                url = f"http://rebind.test:{redirector.port}/x"
                if start is fetch_input:
                    reached += "canary" in await fetch_input(url, EgressRules([f"{ALLOWED}/32"]))
                else:
                    await fetch_repository(url, [f"{ALLOWED}/32"], tmp_path)
    assert canary.hits == []
    assert reached > 0, "the allowed answer must work"
    assert redirector.hits
