"""What a kubeconfig may hold, and how a log that never ends is cut into lines."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from slipway_builder.targets.kubernetes.client import read_kubeconfig
from slipway_builder.targets.kubernetes.following import LONGEST_LINE, split_lines
from slipway_kit.errors import Invalid


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any]) -> str:
    return yaml.safe_dump(
        {
            "clusters": [{"name": "c", "cluster": {"server": "https://a", **cluster}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": user}],
            "current-context": "x",
        }
    )


def test_a_kubeconfig_with_everything_inside_is_read() -> None:
    content = read_kubeconfig(kubeconfig({"certificate-authority-data": "AA=="}, {"token": "t"}))
    assert content["current-context"] == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (kubeconfig({}, {"exec": {"command": "rm"}}), "logs in by a program (exec), which is not run here"),
        (kubeconfig({}, {"auth-provider": {"name": "gcp"}}), "logs in by a program (auth-provider)"),
        (kubeconfig({"certificate-authority": "/etc/passwd"}, {}), "put its content into certificate-authority-data"),
        (kubeconfig({}, {"client-key": "/etc/shadow"}), "put its content into client-key-data"),
        (kubeconfig({}, {"tokenFile": "/etc/shadow"}), "put its content into token"),
        ("{", "The kubeconfig is not YAML"),
        ("[]", "names no cluster and no context"),
        ("", "names no cluster and no context"),
    ],
)
def test_a_kubeconfig_that_reaches_for_this_machine_is_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_kubeconfig(text)
    assert words in caught.value.message
    assert caught.value.field == "kubeconfig"


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ((b"a\nb", b"c\n\nd"), [b"a", b"bc", b"", b"d"]),
        ((b"x" * (LONGEST_LINE + 1), b"y" * 10, b"\nnext\n"), [b"x" * LONGEST_LINE, b"next"]),
        ((b"x" * (LONGEST_LINE + 9) + b"\nnext",), [b"x" * LONGEST_LINE, b"next"]),
        ((), []),
    ],
)
async def test_pieces_become_lines_and_long_ones_are_cut(given: tuple[bytes, ...], lines: list[bytes]) -> None:
    assert [line async for line in split_lines(pieces(*given))] == lines
