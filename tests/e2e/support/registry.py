"""An image registry on loopback that refuses everything: by a 404 below `absent/`, by a 403 below `denied/`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RefusingRegistry:
    """Speaks just enough of the registry protocol to be asked for a manifest."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def image(self, name: str) -> str:
        """The name of an image in this registry."""
        return f"127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path in ("/v2/", "/v2"):
            self._answer(200, {})
        elif "/denied/" in self.path:
            self._answer(403, {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]})
        else:
            self._answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""
