"""URLs inside answers: paths that clients call, and absolute addresses that browsers open (contract 1.1)."""

from urllib.parse import quote, urlsplit

API_ROOT = "/api/v0/"


def origin_of(public_url: str) -> str:
    """`scheme://host:port` of the public URL. The API lives at the origin's root, so a path is dropped."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}"


def api_path(*parts: object) -> str:
    """A root-relative path with a slash at its end: `api_path("projects", id)`. Clients add their own origin."""
    return API_ROOT + "".join(f"{quote(str(part), safe=':~')}/" for part in parts)


def page_url(public_url: str, *parts: object) -> str:
    """The absolute address of a page for browsers: `page_url(url, "p", "me", "lab")`."""
    return origin_of(public_url) + "/" + "".join(f"{quote(str(part), safe=':~')}/" for part in parts)
