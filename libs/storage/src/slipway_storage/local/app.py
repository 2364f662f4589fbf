"""The ASGI app behind the local store's signed URLs: GET and HEAD with ranges, PUT of objects and of parts.

A small app by hand, because it moves bytes: nothing is buffered beyond 1 MiB and no file is touched on the
event loop. Objects are always answered as attachments in a sandbox, so that no user's HTML ever runs on this
origin.
"""

import errno
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_kit.errors import Forbidden, Invalid, NotFound
from slipway_storage.local.ranges import ByteRange, UnsatisfiableRangeError, parse_range
from slipway_storage.local.signing import MOUNT_PATH, Grant
from slipway_storage.local.store import LocalReader, LocalStore
from slipway_storage.store import MultipartUpload, ObjectInfo

StoreLookup = Callable[[str], Awaitable[LocalStore | None]]

_METHODS = {"get": ("GET", "HEAD"), "put": ("PUT",), "part": ("PUT",)}


class _ClientGoneError(Exception):
    """The client closed the connection before the end of its body."""


class _WrongSizeError(Exception):
    """The body has not the size that was signed."""


def local_store_app(stores: Mapping[str, LocalStore] | StoreLookup) -> ASGIApp:
    """Serve local stores by their id, from a mapping or by an async lookup. Mount it under `/_store`."""
    return _LocalStoreApp(stores)


class _LocalStoreApp:
    def __init__(self, stores: Mapping[str, LocalStore] | StoreLookup) -> None:
        self._stores = stores

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the local store's app speaks HTTP only")
        try:
            await self._serve(scope, receive, send)
        except _ClientGoneError:
            return
        except _WrongSizeError as error:
            await _text(HTTPStatus.BAD_REQUEST, str(error), scope, receive, send)
        except Forbidden as error:
            await _text(HTTPStatus.FORBIDDEN, str(error), scope, receive, send)
        except NotFound as error:
            await _text(HTTPStatus.NOT_FOUND, str(error), scope, receive, send)
        except Invalid as error:
            await _text(HTTPStatus.BAD_REQUEST, str(error), scope, receive, send)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            await _text(
                HTTPStatus.INSUFFICIENT_STORAGE,
                "The store's disk is full. Free space on it.",
                scope,
                receive,
                send,
            )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix(MOUNT_PATH)
        store_id, _, key = path.removeprefix("/").partition("/")
        store = await self._find(store_id)
        if store is None or not key:
            raise Forbidden("This is not a URL that Slipway signed. Use the URL exactly as it was given.")
        grant = store.verify(key, scope["query_string"].decode("ascii", "replace"))
        if scope["method"] not in _METHODS[grant.operation]:
            raise Forbidden(f"This URL was signed for {_METHODS[grant.operation][0]}, not {scope['method']}.")
        if grant.operation == "get":
            async with await store.open_reader(key) as reader:
                await _send_object(grant, reader, scope, receive, send)
        else:
            await _store_body(store, grant, scope, receive, send)

    async def _find(self, store_id: str) -> LocalStore | None:
        if isinstance(self._stores, Mapping):
            return self._stores.get(store_id)
        return await self._stores(store_id)


async def _send_object(grant: Grant, reader: LocalReader, scope: Scope, receive: Receive, send: Send) -> None:
    info, request = reader.info, Headers(scope=scope)
    if request.get("if-none-match") == f'"{info.etag}"':
        await _start(send, HTTPStatus.NOT_MODIFIED, _object_headers(grant, info))
        await send({"type": "http.response.body"})
        return
    # A range is only good for the object that the client began with.
    wanted = request.get("range") if request.get("if-range", f'"{info.etag}"') == f'"{info.etag}"' else None
    try:
        part = parse_range(wanted, info.size)
    except UnsatisfiableRangeError:
        await _text(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The object has {info.size} bytes.",
            scope,
            receive,
            send,
            {"Content-Range": f"bytes */{info.size}"},
        )
        return
    headers = _object_headers(grant, info)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{info.size}"
    span = part or ByteRange(0, info.size)
    headers["Content-Length"] = str(span.end - span.start)
    await _start(send, HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT, headers)
    if scope["method"] == "GET":
        async for chunk in reader.chunks(span.start, span.end):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


def _object_headers(grant: Grant, info: ObjectInfo) -> dict[str, str]:
    name = grant.filename or info.key.rpartition("/")[2]
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Type": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "ETag": f'"{info.etag}"',
        "Last-Modified": format_datetime(info.modified_at, usegmt=True),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


async def _store_body(store: LocalStore, grant: Grant, scope: Scope, receive: Receive, send: Send) -> None:
    declared = Headers(scope=scope).get("content-length")
    if grant.size is not None and declared is not None and int(declared) != grant.size:
        raise _WrongSizeError(f"This URL takes exactly {grant.size} bytes, not {declared}.")
    upload = None
    if grant.operation == "part":
        upload = MultipartUpload(key=grant.key, upload_id=grant.upload_id or "")
    async with store.open_writer() as writer:
        async for chunk in _body(receive):
            await writer.write(chunk)
            if grant.size is not None and writer.size > grant.size:
                raise _WrongSizeError(f"This URL takes exactly {grant.size} bytes; more were sent.")
        if grant.size is not None and writer.size != grant.size:
            raise _WrongSizeError(f"This URL takes exactly {grant.size} bytes, not {writer.size}.")
        if upload is None:
            etag = (await writer.commit(grant.key)).etag
        else:
            etag = await writer.commit_part(upload, grant.part_number or 0)
    await _start(send, HTTPStatus.OK, {"ETag": f'"{etag}"', "Content-Length": "0"})
    await send({"type": "http.response.body"})


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        if chunk := message.get("body", b""):
            yield chunk
        if not message.get("more_body", False):
            return


async def _start(send: Send, status: HTTPStatus, headers: Mapping[str, str]) -> None:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": encoded})


async def _text(
    status: HTTPStatus,
    text: str,
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: Mapping[str, str] | None = None,
) -> None:
    await PlainTextResponse(f"{text}\n", status_code=status, headers=headers)(scope, receive, send)
