"""Input URIs, wildcards and the names of matched files."""

import pytest

from slipway_kit.errors import Invalid
from slipway_storage.uris import DatumUri, HttpUri, StoreUri, VersionUri, parse_uri
from slipway_storage.wildcards import KeepDirectories, destination, destinations, matching, wildcard_root

KEYS = ["a.jpg", "images/a.jpg", "images/b.png", "images/deep/er/c.jpg", "imagesx/d.jpg", "images/a.jpgx"]


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket/a/b.txt", StoreUri("s3", "bucket", "a/b.txt")),
        ("gs://bucket/a*b", StoreUri("gs", "bucket", "a*b")),
        ("azure://account/container/a/b", StoreUri("azure", "account/container", "a/b")),
        ("swift://project/container/key", StoreUri("swift", "project/container", "key")),
        (
            "https://user:pw@example.com/x/y%20z.bin?q=1",
            HttpUri("https://user:pw@example.com/x/y%20z.bin?q=1"),
        ),
        ("datum://latest-model", DatumUri("latest-model")),
        ("dataset://cars/latest", VersionUri("dataset", "cars", "latest")),
        ("model://cars/3", VersionUri("model", "cars", "3")),
    ],
)
def test_uris_are_parsed_and_given_back(text: str, uri: object) -> None:
    assert parse_uri(text) == uri
    assert str(parse_uri(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3://b*/key",
        "s3://bucket/../x",
        "azure://a/b",
        "ftp://host/x",
        "http://",
        "http://[",
        "datum://",
        "datum://a/b",
        "dataset://a",
        "model:///1",
        "model://a/b/c",
    ],
)
def test_wrong_uris_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_uri(text)


def test_http_names() -> None:
    assert HttpUri("https://example.com/x/y%20z.bin?q=1").name == "y z.bin"
    assert HttpUri("https://example.com/").name == "example.com"


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("images/*.jpg", ["images/a.jpg"]),
        ("images/*", ["images/a.jpg", "images/b.png", "images/a.jpgx"]),
        ("**.jpg", ["a.jpg", "images/a.jpg", "images/deep/er/c.jpg", "imagesx/d.jpg"]),
        ("images/**.jpg", ["images/a.jpg", "images/deep/er/c.jpg"]),
        ("images/**/*.jpg", ["images/a.jpg", "images/deep/er/c.jpg"]),
        ("**/c.jpg", ["images/deep/er/c.jpg"]),
        ("*/?.jpg", []),
        ("images/a.jpg", ["images/a.jpg"]),
    ],
)
def test_wildcards(pattern: str, matched: list[str]) -> None:
    assert matching(pattern, KEYS) == matched


def test_wildcard_roots() -> None:
    assert wildcard_root("images/de*p/**.jpg") == "images"
    assert wildcard_root("**.jpg") == ""
    assert wildcard_root("images/deep/a.jpg") == "images/deep"


@pytest.mark.parametrize(
    ("keep", "name"),
    [
        (KeepDirectories.NONE, "c.jpg"),
        (KeepDirectories.SUFFIX, "deep/er/c.jpg"),
        (KeepDirectories.FULL, "images/deep/er/c.jpg"),
    ],
)
def test_kept_directories(keep: KeepDirectories, name: str) -> None:
    assert destination("images/deep/er/c.jpg", pattern="images/**.jpg", keep=keep) == name


def test_of_two_files_with_one_name_the_last_wins() -> None:
    assert destinations("**.jpg", ["x/a.jpg", "y/a.jpg"]) == {"a.jpg": "y/a.jpg"}


def test_filename_renames_a_single_file_only() -> None:
    assert destination("x/a.jpg", pattern="x/a.jpg", filename="b.jpg") == "b.jpg"
    with pytest.raises(Invalid):
        destination("x/a.jpg", pattern="x/*", filename="b.jpg")
    with pytest.raises(Invalid):
        destination("x/a.jpg", pattern="x/a.jpg", filename="../b.jpg")
