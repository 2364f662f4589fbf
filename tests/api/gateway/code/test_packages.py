"""Ad-hoc packages: what is taken, what is refused, and that nothing is left behind."""

import asyncio
import hashlib
import tarfile
import zlib

import pytest
from sqlalchemy import text

from slipway_gateway.app import public_app


def files(content: bytes) -> dict:
    return {"data": ("data.tgz", content, "application/gzip")}


async def send(client, project, content: bytes, **fields: str):
    return await client.post(f"{project['url']}import-package/", files=files(content), data=fields)


async def test_package_becomes_a_commit_once(me, project, context, make_package, make_member):
    content = make_package(make_member("train.py", b"print(1)\n"))
    identifier = f"~{hashlib.sha256(content).hexdigest()}"
    url = f"/api/v0/commits/{identifier}/?project={project['id']}"
    assert (await me.get(url)).status_code == 404
    first = await send(me, project, content, description="dirty", yaml_path="valohai.yaml")
    assert first.status_code == 201, first.text
    assert (first.json()["identifier"], first.json()["adhoc"], first.json()["description"]) == (
        identifier,
        True,
        "dirty",
    )
    again = await send(me, project, content)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    found = (await me.get(url + "&include=config")).json()
    assert found["config"][0]["step"]["name"] == "train"
    async with context.db.read() as session:
        (key,) = (await session.execute(text("SELECT key FROM archives"))).scalars().all()
    assert await context.object_store.get(key) == content


async def test_what_belongs_to_others_is_not_found(me, other, project, make_package):
    content = make_package()
    identifier = (await send(me, project, content)).json()["identifier"]
    assert (await send(other, project, content)).status_code == 404
    assert (await other.get(f"/api/v0/commits/{identifier}/")).status_code == 404
    assert (await me.get(f"/api/v0/commits/{identifier}/")).status_code == 200


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("../up.py", {}),
        ("a/../../up.py", {}),
        ("/etc/passwd", {}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "../out"}),
        ("d/link", {"type": tarfile.SYMTYPE, "linkname": "../../out"}),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "../out"}),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}),
        ("null", {"type": tarfile.CHRTYPE}),
        ("pipe", {"type": tarfile.FIFOTYPE}),
        ("back\\slash", {}),
    ],
)
async def test_members_that_leave_the_tree_are_refused(me, project, context, make_package, make_member, name, changes):
    answer = await send(me, project, make_package(make_member(name, **changes)))
    assert answer.status_code == 400
    (problem,) = answer.json()["data"]
    assert problem["code"] == "unsafe_member"
    assert repr(name) in problem["message"]
    await nothing_is_left(context)


async def test_links_through_links_are_refused(me, project, make_package, make_member):
    inner = make_member("d/up", type=tarfile.SYMTYPE, linkname="..")
    escape = make_member("escape", type=tarfile.SYMTYPE, linkname="d/up/..")
    through = make_member("d/up/file")
    for members in ([inner, escape], [escape, inner], [inner, through]):
        answer = await send(me, project, make_package(*members))
        assert answer.json()["data"][0]["code"] == "unsafe_member"
    inside = make_member("data/current", type=tarfile.SYMTYPE, linkname="../train.py")
    assert (await send(me, project, make_package(inside))).status_code == 201


async def test_truncated_and_foreign_content_is_refused(me, project, context, make_package, make_member):
    whole = make_package(make_member("noise", bytes(range(256)) * 400))
    for content in (whole[: len(whole) // 2], whole[:-4], b"", b"PK\x03\x04 zip", whole[:200] + b"x" * 100):
        answer = await send(me, project, content)
        assert answer.status_code == 400
        assert answer.json()["data"][0]["code"] == "invalid_package"
    await nothing_is_left(context)


async def test_wrong_hash_is_refused(me, project, context, make_package):
    answer = await send(me, project, make_package(), sha256="0" * 64)
    assert (answer.status_code, answer.json()["sha256"][0]["code"]) == (400, "hash_mismatch")
    await nothing_is_left(context)


async def test_missing_yaml_is_a_field_error(me, project, context, make_package):
    for content, fields in ((make_package(yaml=None), {}), (make_package(), {"yaml_path": "other.yaml"})):
        answer = await send(me, project, content, **fields)
        assert answer.status_code == 400
        assert "has no file" in answer.json()["yaml_path"][0]["message"]
    answer = await send(me, project, make_package(), yaml_path="../valohai.yaml")
    assert answer.json()["yaml_path"]
    await nothing_is_left(context)


@pytest.mark.parametrize(
    ("yaml", "line", "word"),
    [
        ("- step:\n    name: a\n   image: b\n", "line 3", "Hint"),
        ("- step:\n    name: a\n- step:\n    name: b\n    image: x\n    command: 7.5\n", "line", "Hint"),
        ("- step:\n    name: a\n    image: [\n", "line", "Hint"),
        ("just text", "line 1", "not valid"),
        ("- deployment: 3\n", "", "not valid"),
        ("\u0000", "", "parsed"),
    ],
)
async def test_bad_yaml_names_line_and_hint(me, project, context, make_package, yaml, line, word):
    answer = await send(me, project, make_package(yaml=yaml))
    assert answer.status_code == 400
    (problem,) = answer.json()["yaml_path"]
    assert problem["code"] == "invalid_config"
    assert line in problem["message"]
    assert word in problem["message"]
    await nothing_is_left(context)


async def test_yaml_bombs_are_stopped_and_the_next_reader_works(me, project, make_package):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    deep = "[" * 5000
    for yaml in (bomb, deep):
        assert (await send(me, project, make_package(yaml=yaml))).status_code == 400
    assert (await send(me, project, make_package())).status_code == 201


async def test_bodies_that_are_no_package_are_field_errors(me, project):
    url = f"{project['url']}import-package/"
    assert (await me.post(url)).json()["data"][0]["code"] == "required"
    assert (await me.post(url, json={"data": "x"})).json()["data"][0]["code"] == "required"
    assert (await me.post(url, files={"other": ("x", b"y")})).json()["data"][0]["code"] == "required"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    cut = b'--b\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\nbytes that end'
    answer = await me.post(url, content=cut, headers=headers)
    assert (answer.status_code, answer.json()["data"][0]["code"]) == (400, "truncated")


async def test_package_at_the_limit_of_members_is_taken_and_one_more_is_not(
    me, project, context, make_package, make_member
):
    members = [make_member(f"d/{number}.py") for number in range(10_000)]
    answer = await send(me, project, make_package(*members))
    assert (answer.status_code, answer.json()["data"][0]["code"]) == (400, "too_many_members")
    await nothing_is_left(context)
    assert (await send(me, project, make_package(*members[1:]))).status_code == 201


def padded_tar(size: int) -> bytes:
    """A tar without members followed by zeros."""
    return zeros(size, start=bytes(1024))


def declared_size(size: int) -> bytes:
    """A member that says it has `size` bytes."""
    info = tarfile.TarInfo("large.bin")
    info.size = size
    return zeros(1024**2, start=info.tobuf())


def extended_header(size: int) -> bytes:
    """A header about a header, of `size` bytes."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    return zeros(size, start=info.tobuf())


def zeros(size: int, *, start: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(start)]
    parts += [packer.compress(bytes(1024**2)) for _ in range(size // 1024**2)]
    return b"".join([*parts, packer.flush()])


@pytest.mark.parametrize(
    ("make", "size", "code"),
    [
        (padded_tar, 64 * 1024**2, "invalid_package"),
        (declared_size, 5 * 1024**3, "too_large"),
        (declared_size, 100 * 1024**2, "invalid_package"),
        (extended_header, 300 * 1024**2, "invalid_package"),
    ],
)
async def test_bombs_are_refused(me, project, context, make, size, code):
    answer = await send(me, project, make(size))
    assert (answer.status_code, answer.json()["data"][0]["code"]) == (400, code)
    await nothing_is_left(context)


async def test_yaml_of_50_mb_is_refused(me, project, context, make_package):
    answer = await send(me, project, make_package(yaml="# long\n" * (50 * 1024**2 // 7)))
    assert (answer.status_code, answer.json()["yaml_path"][0]["code"]) == (400, "too_large")
    await nothing_is_left(context)


async def test_upload_that_breaks_off_leaves_nothing(me, project, context, make_package):
    start = b'--b\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n'
    messages = [
        {"type": "http.request", "body": start + make_package(), "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = {"authorization": me.headers["authorization"], "content-type": "multipart/form-data; boundary=b"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{project['url']}import-package/",
        "raw_path": f"{project['url']}import-package/".encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict:
        return messages.pop(0)

    async def send_away(message: dict) -> None:
        """Nobody listens any more."""

    await public_app(context)(scope, receive, send_away)
    assert messages == []
    await nothing_is_left(context)


async def test_two_uploads_of_one_package_at_once_give_one_commit(me, project, make_package):
    content = make_package()
    answers = await asyncio.gather(*(send(me, project, content) for _ in range(2)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def nothing_is_left(context) -> None:
    async with context.db.read() as session:
        left = await session.execute(text("SELECT (SELECT count(*) FROM commits) + (SELECT count(*) FROM archives)"))
    assert left.scalar_one() == 0
    assert [item async for item in context.object_store.list("code")] == []
    assert list(context.settings.upload_dir.iterdir()) == []
