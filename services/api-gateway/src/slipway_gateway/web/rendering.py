"""Renders templates into answers with the headers that guard a page."""

import shlex
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from slipway_gateway.identity import csrf
from slipway_gateway.identity.dependencies import SESSION_COOKIE, context_of
from slipway_gateway.identity.domain import User
from slipway_gateway.web import formats
from slipway_gateway.web.assets import Assets

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Renderer:
    """Templates and assets of the pages. Everything that goes into a template is escaped."""

    def __init__(self) -> None:
        self.assets = Assets()
        self._templates = Environment(
            loader=PackageLoader("slipway_gateway.web", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(asset=self.assets.url, path=page_path, csrf_field=csrf.FIELD)
        self._templates.filters.update(
            moment=formats.moment,
            duration=formats.duration,
            size=formats.size,
            number=formats.number,
            short_commit=formats.short_commit,
            value_text=formats.value_text,
            quoted=shlex.quote,
        )

    def page(
        self, request: Request, template: str, *, user: User | None = None, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """The answer with a rendered page. `user` is who is logged in, for the page's head and its forms."""
        context = context_of(request)
        now = context.clock.now()
        session = request.cookies.get(SESSION_COOKIE)
        html = self._templates.get_template(template).render(
            user=user,
            now=now,
            ago=lambda value: formats.ago(value, now),
            origin=context.public_origin,
            csrf_value=csrf.csrf_token(session, context.token_pepper) if session and user else "",
            here=request.url.path,
            **values,
        )
        return HTMLResponse(html, status_code=status, headers=SECURITY_HEADERS)


def page_path(*parts: object) -> str:
    """The root-relative address of a page: `page_path("p", owner, slug)`."""
    return "/" + "".join(f"{quote(str(part), safe=':~')}/" for part in parts)


def render(
    request: Request, template: str, *, user: User | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page of this app's renderer."""
    renderer: Renderer = request.app.state.renderer
    return renderer.page(request, template, user=user, status=status, **values)
