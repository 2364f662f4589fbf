"""The reader of users' YAML: what it says, what it costs, and that it outlives bad input."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from slipway_gateway.code.yaml_reader import YamlReader

STEP = """\
- step:
    name: step-{number}
    image: python:3.12
    command: python train.py {{parameters}}
    parameters:
"""
PARAMETER = "      - name: p{number}\n        type: float\n        default: 1.5\n"


@pytest.fixture
async def reader() -> AsyncIterator[YamlReader]:
    made = YamlReader()
    yield made
    await made.close()


def steps(count: int, parameters: int) -> bytes:
    inner = "".join(PARAMETER.format(number=number) for number in range(parameters))
    return "".join(STEP.format(number=number) + inner for number in range(count)).encode()


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"- step:\n    name: a\n   image: b\n", 3, "cannot be parsed"),
        (b"- step:\n\tname: a\n", 2, "cannot be parsed"),
        (b"- step:\n    name: 'a\n", 3, "cannot be parsed"),
        (b"- step:\n    name: *b\n", 2, "cannot be parsed"),
        (b"- step:\n    name: !!python/object:os.system a\n", 2, "cannot be parsed"),
        (b"- step:\n    name: a\n- step:\n    name: b\n    image: x\n    command: 7.5\n", None, "not valid"),
        (b"name: a\n", 1, "not valid"),
        (
            b"- step:\n    name: a\n    image: x\n    command: y\n    parameters:\n      - name: p\n        type: z\n",
            7,
            "",
        ),
        (b"\xff\xfe\x00", None, "UTF-8"),
        (b"- a\n- \0", 2, "cannot be parsed"),
    ],
)
async def test_what_is_wrong_has_a_line_and_a_hint(reader: YamlReader, content: bytes, line: int | None, words: str):
    config, error = await reader.read(content)
    assert config is None
    assert error is not None
    assert words in error.message
    assert error.hint
    if line is not None:
        assert error.line == line


async def test_ten_steps_do_not_hold_up_the_loop(reader: YamlReader):
    await reader.read(b"[]")
    longest, running = 0.0, True

    async def tick() -> None:
        nonlocal longest
        while running:
            before = time.monotonic()
            await asyncio.sleep(0.002)
            longest = max(longest, time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    began = time.monotonic()
    config, error = await reader.read(steps(10, 100))
    took = time.monotonic() - began
    running = False
    await ticking
    assert error is None
    assert [item["step"]["name"] for item in config] == [f"step-{number}" for number in range(10)]
    assert took > 0.3
    assert longest < took / 3


async def test_bombs_end_soon_and_readers_live_on(reader: YamlReader):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    for content, words in (
        (bomb.encode(), "unfolds"),
        (b"&a [*a]", "unfolds"),
        (b"[" * 5000, "too deep"),
        (b"- " * 300_000, "too deep"),
    ):
        began = time.monotonic()
        config, error = await reader.read(content)
        assert config is None
        assert words in error.message
        assert time.monotonic() - began < 10
    assert await reader.read(b"[]") == ([], None)


async def test_reader_that_was_killed_while_it_waited_is_replaced(reader: YamlReader):
    assert await reader.read(b"[]") == ([], None)
    (process,) = reader._idle
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert await reader.read(b"[]") == ([], None)
