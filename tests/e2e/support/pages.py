"""A browser without a screen: cookies, forms, and nothing that a person at a real one could not do."""

import re
from html import unescape
from typing import Self

import httpx

TOKENS = "/auth/tokens/"


class Browser:
    """Follows redirects and fills in forms, hidden fields included."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, follow_redirects=True, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def page(self, path: str) -> httpx.Response:
        """Open a page."""
        return self._client.get(path, headers={"Accept": "text/html"})

    def login(self, username: str, password: str) -> None:
        """Log in where clients send people who need a token."""
        page = self.page(TOKENS)
        assert page.status_code == 200, page.text
        answer = self.submit(page, 'name="password"', username=username, password=password)
        assert (answer.status_code, answer.url.path) == (200, TOKENS), answer.text

    def make_token(self, name: str) -> str:
        """Make a token and read its value off the page."""
        answer = self.submit(self.page(TOKENS), 'name="name"', name=name)
        found = re.search(r"--token ([A-Za-z0-9_-]{40,})", unescape(answer.text))
        assert found, answer.text
        assert found.group(1) not in self.page(TOKENS).text, "a token is shown once"
        return found.group(1)

    def revoke_token(self, name: str) -> None:
        """Revoke the token of this name."""
        page = self.page(TOKENS)
        row = next(part for part in page.text.split("<tr>") if name in part)
        number = re.search(r'name="id" value="([^"]+)"', row)
        assert number, row
        answer = self.submit(page, f'value="{number.group(1)}"')
        assert answer.status_code == 200, answer.text
        assert name not in answer.text

    def submit(self, page: httpx.Response, marker: str, **values: str) -> httpx.Response:
        """Send the form of a page whose source holds `marker`, as it stands there with `values` filled in."""
        form = next(one for one in re.findall(r"<form\b.*?</form>", page.text, re.DOTALL) if marker in one)
        fields = {
            unescape(name): unescape(value)
            for name, value in (_name_and_value(tag) for tag in re.findall(r"<input\b[^>]*>", form))
            if name
        }
        action = re.search(r'<form\b[^>]*\baction="([^"]*)"', form)
        target = page.url.join(unescape(action.group(1))) if action and action.group(1) else page.url
        return self._client.post(target, data={**fields, **values}, headers={"Accept": "text/html"})


def _name_and_value(tag: str) -> tuple[str, str]:
    def attribute(name: str) -> str:
        found = re.search(rf'\b{name}="([^"]*)"', tag)
        return found.group(1) if found else ""

    return attribute("name"), attribute("value")
