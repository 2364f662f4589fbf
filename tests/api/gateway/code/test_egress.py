"""Which addresses the gateway connects to for a repository: public ones, and none but those by default."""

from ipaddress import ip_address

import pytest

from slipway_gateway.settings import EgressSettings, GatewaySettings
from slipway_kit.egress import EgressRules


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"egress": EgressSettings()})


async def test_private_hosts_are_refused_before_anything_is_sent(me, project, git_http_server, repository):
    repository.git("push", "--quiet", str(git_http_server.create("lab")), "main")
    port = int(git_http_server.base_url.rpartition(":")[2])
    hosts = ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0"]
    addresses = [f"http://{host}:{port}/lab.git" for host in hosts]
    addresses += [f"ssh://git@{host}:{port}/lab.git" for host in hosts]
    addresses += ["git@localhost:lab.git", "http://169.254.169.254/latest", "https://10.0.0.1/x", "https://[fd00::1]/x"]
    for url in addresses:
        linked = await me.put(f"{project['url']}repository/", json={"url": url})
        assert linked.status_code == 200, (url, linked.text)
        found = (await me.post(f"{project['url']}fetch/")).json()
        assert found["commits"] == []
        assert "is not public" in found["errors"][0], url
    assert git_http_server.requests == []


@pytest.mark.parametrize(
    ("address", "allowed", "answer"),
    [
        ("8.8.8.8", [], True),
        ("2001:4860:4860::8888", [], True),
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", [], False),
        ("64:ff9b::7f00:1", [], False),
        ("64:ff9b::808:808", [], True),
        ("2002:7f00:1::", [], False),
        ("::1", [], False),
        ("10.1.2.3", ["10.0.0.0/16"], False),
        ("10.0.2.3", ["10.0.0.0/16"], True),
        ("100.64.0.1", [], False),
        ("192.0.2.1", [], False),
        ("fd00::1", [], False),
        ("fd00::1", ["fd00::/8"], True),
        ("240.0.0.1", [], False),
        ("169.254.169.254", ["0.0.0.0/0"], False),
        ("::ffff:169.254.169.254", ["::/0", "0.0.0.0/0"], False),
        ("fe80::1", ["::/0"], False),
        ("0.0.0.0", ["0.0.0.0/0"], False),
        ("224.0.0.1", ["0.0.0.0/0"], False),
    ],
)
def test_addresses(address: str, allowed: list[str], answer: bool) -> None:
    assert EgressRules(allowed).allows(ip_address(address)) is answer
