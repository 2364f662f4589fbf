"""A plain client of the public API, for what `vh` does not show."""

import hashlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

import httpx

FINAL = frozenset({"complete", "error", "crashed", "stopped"})
POLL_SECONDS = 0.15
Json = dict[str, Any]


class Api:
    """Calls as one user. `get` and `post` fail the test unless the status is the expected one."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Token {token}"} if token else {}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=60)
        self.url = url
        self.token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; `path` without `/api/v0/` unless it begins with a slash or is a URL. Options are httpx's."""
        return self._client.request(method, path if path.startswith(("/", "http://")) else f"/api/v0/{path}", **options)

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        """JSON of a GET; the keywords are the query."""
        return _json(self.call("GET", path, params=params), status)

    def post(self, path: str, body: Any = None, status: int = 201, **options: Any) -> Any:
        """JSON of a POST with a JSON body."""
        return _json(self.call("POST", path, json=body, **options), status)

    def delete(self, path: str, status: int = 204) -> None:
        """DELETE."""
        _json(self.call("DELETE", path), status)

    def run(self, project: str, commit: str, step: str, **more: Any) -> Json:
        """Create an execution as other API users do."""
        created: Json = self.post("executions/", {"project": project, "commit": commit, "step": step, **more})
        return created

    def execution(self, reference: str) -> Json:
        """An execution by id or `<project>:<counter>`."""
        found: Json = self.get(f"executions/{reference}/")
        return found

    def wait(self, reference: str, statuses: Iterable[str] = FINAL, timeout: float = 90.0) -> Json:
        """Wait until an execution has one of the statuses. Fails at once when it ended with another."""
        wanted = frozenset(statuses)
        deadline = time.monotonic() + timeout
        while True:
            found = self.execution(reference)
            if found["status"] in wanted:
                return found
            about = f"#{found['counter']} {found['step']} is {found['status']} ({found['status_detail']})"
            assert found["status"] not in FINAL, f"{about}, not {sorted(wanted)}: {self.story(found)}"
            assert time.monotonic() < deadline, f"{about} after {timeout:g} s: {self.story(found)}"
            time.sleep(POLL_SECONDS)

    def wait_complete(self, reference: str, timeout: float = 90.0) -> Json:
        """Wait until an execution has ended, which must be with success."""
        return self.wait(reference, {"complete"}, timeout)

    def wait_line(self, execution: Mapping[str, Any], text: str, timeout: float = 90.0) -> None:
        """Wait until a line of the log holds `text`."""
        deadline = time.monotonic() + timeout
        while not any(text in event["message"] for event in self.events(execution)["events"]):
            current = self.execution(execution["id"])
            assert time.monotonic() < deadline, f"{text!r} was never printed: {self.story(current)}"
            assert current["status"] not in FINAL, f"ended without printing {text!r}: {self.story(current)}"
            time.sleep(POLL_SECONDS)

    def events(self, execution: Mapping[str, Any], **params: Any) -> Json:
        """`events/`: the newest lines of the log."""
        found: Json = self.get(f"{execution['url']}events/", **params)
        return found

    def lines(self, execution: Mapping[str, Any], stream: str = "stdout") -> list[str]:
        """All messages of one stream."""
        return [event["message"] for event in self.events(execution, limit=0)["events"] if event["stream"] == stream]

    def status_lines(self, execution: Mapping[str, Any]) -> list[str]:
        """All messages of `status-events/`."""
        found = self.get(f"{execution['url']}status-events/", limit=1000)
        return [event["message"] for event in found["status_events"]]

    def raw_log(self, execution: Mapping[str, Any]) -> bytes:
        """The log as it was printed."""
        answer = self.call("GET", f"{execution['url']}log/")
        assert answer.status_code == 200, answer.text
        return answer.content

    def outputs(self, execution: Mapping[str, Any]) -> dict[str, Json]:
        """Files of an execution by name."""
        listed = self.get("data/", output_execution=execution["id"], limit=5000)
        return {datum["name"]: datum for datum in listed["results"]}

    def content(self, datum: Mapping[str, Any]) -> bytes:
        """The bytes of a file, fetched as any client would: a signed URL without a token; checked by its hash."""
        url = self.get(f"data/{datum['id']}/download/")["url"]
        answer = httpx.get(url, timeout=60)
        assert answer.status_code == 200, answer.text
        assert hashlib.sha256(answer.content).hexdigest() == datum["sha256"]
        assert len(answer.content) == datum["size"]
        return answer.content

    def output(self, execution: Mapping[str, Any], name: str) -> bytes:
        """The bytes of one output."""
        found = self.outputs(execution)
        assert name in found, f"{name} is not among {sorted(found)}: {self.story(execution)}"
        return self.content(found[name])

    def upload(self, project: str, name: str, content: bytes) -> Json:
        """Upload a file into a project."""
        answer = self.call("POST", "data/upload/", data={"project": project, "name": name}, files={"file": content})
        found: Json = _json(answer, 201)
        return found

    def story(self, execution: Mapping[str, Any]) -> str:
        """All that helps to understand why an execution went wrong."""
        parts = [f"{execution.get('end_reason')}: {execution.get('end_message')}"]
        parts += [f"status: {line}" for line in self.status_lines(execution)[-25:]]
        parts += [f"{event['stream']}: {event['message']}" for event in self.events(execution)["events"][-25:]]
        return "\n".join(parts)


def _json(answer: httpx.Response, status: int) -> Any:
    request = answer.request
    assert answer.status_code == status, f"{request.method} {request.url} answered {answer.status_code}: {answer.text}"
    return answer.json() if answer.content else None


def field_codes(answer: httpx.Response, field: str, status: int = 400) -> list[str]:
    """Codes of a field in the contract's error shape `{"<field>": [{"message", "code"}]}`; checks the shape."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    body = answer.json()
    assert field in body, f"{field} is not among {body}"
    for problems in body.values():
        assert isinstance(problems, list), body
        assert problems, body
        for problem in problems:
            assert problem.keys() == {"message", "code"}, body
            assert len(problem["message"]) > 10, body
    return [problem["code"] for problem in body[field]]
