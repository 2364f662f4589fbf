"""Clients that submit, watch and stop executions over the public API, and remember what they were told."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from tests.chaos.support.plan import Job
from tests.e2e.support.api import FINAL

_REQUEST_SECONDS = 15.0
_PATIENCE_SECONDS = 120.0
_WATCH_SECONDS = 0.7
Json = dict[str, Any]


@dataclass
class Seen:
    """What the clients know of one execution."""

    job: Job
    id: str = ""
    accepted_at: float = 0.0
    answers: int = 0
    """How many requests with its idempotency key were answered with 201."""
    ids: set[str] = field(default_factory=set)
    statuses: list[tuple[str, int]] = field(default_factory=list)
    """Status and number of attempts, whenever one of them differed from what was seen before."""
    stop_asked: bool = False

    @property
    def final(self) -> bool:
        """Whether it was seen to have ended."""
        return bool(self.statuses) and self.statuses[-1][0] in FINAL

    def note(self, execution: Json) -> None:
        """Remember a status."""
        told = (execution["status"], execution["attempt_count"])
        if not self.statuses or self.statuses[-1] != told:
            self.statuses.append(told)


class Clients:
    """All clients of one storm; requests that fail are sent again as a careful client does."""

    def __init__(self, url: str, token: str, project: str, commit: str, seed: int) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/v0/",
            headers={"Authorization": f"Token {token}"},
            timeout=_REQUEST_SECONDS,
        )
        self._project = project
        self._commit = commit
        self._random = random.Random(f"clients {seed}")
        self._prefix = f"storm-{seed}-{time.time_ns()}"
        self.seen: list[Seen] = []
        self.faulty: list[str] = []
        """Answers that a server may never give, whatever happens around it."""
        self.retried = 0
        """Requests that had to be sent again."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def unfinished(self) -> int:
        """Executions that were accepted and not yet seen to have ended."""
        return sum(1 for one in self.seen if not one.final)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send until it is answered with less than 500."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            problem = ""
            try:
                answer = await self._http.request(method, path, **options)
                if answer.status_code < 500:
                    return answer
                problem = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code not in {502, 503, 504}:
                    self.faulty.append(f"{method} {path}: {problem}")
            except httpx.HTTPError as error:
                problem = repr(error)
            self.retried += 1
            assert time.monotonic() < deadline, f"{method} {path} was never answered: {problem}"
            await asyncio.sleep(self._random.uniform(0.1, 0.6))

    async def submit(self, job: Job) -> Seen:
        """Create an execution. One in ten is sent twice, as if the first answer had been lost."""
        seen = Seen(job)
        self.seen.append(seen)
        body = {"project": self._project, "commit": self._commit, "step": "storm", "parameters": job.parameters}
        headers = {"Idempotency-Key": f"{self._prefix}-{job.number}"}
        for _ in range(2 if self._random.random() < 0.1 else 1):
            answer = await self.request("POST", "executions/", json=body, headers=headers)
            assert answer.status_code == 201, f"{answer.status_code}: {answer.text}"
            created = answer.json()
            seen.ids.add(created["id"])
            seen.answers += 1
            seen.id = created["id"]
            seen.note(created)
        seen.accepted_at = time.time()
        return seen

    async def stop(self, seen: Seen) -> None:
        """Ask for an end, unless there was one already."""
        answer = await self.request("POST", f"executions/{seen.id}/stop/")
        assert answer.status_code == 200, answer.text
        seen.stop_asked = True

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_WATCH_SECONDS)

    async def look(self) -> None:
        """Look at everything that is not known to have ended."""
        waiting = {one.id: one for one in self.seen if one.id and not one.final}
        query = {"project": self._project, "status": "incomplete", "limit": 1000}
        listed = (await self.request("GET", "executions/", params=query)).json()["results"]
        for execution in listed:
            if (seen := waiting.pop(execution["id"], None)) is not None:
                seen.note(execution)
        for seen in waiting.values():
            seen.note((await self.request("GET", f"executions/{seen.id}/")).json())

    async def execution(self, execution_id: str) -> Json:
        """One execution."""
        found: Json = (await self.request("GET", f"executions/{execution_id}/")).json()
        return found

    async def log(self, execution_id: str) -> bytes:
        """What the run printed."""
        answer = await self.request("GET", f"executions/{execution_id}/log/")
        assert answer.status_code == 200, answer.text
        return answer.content

    async def outputs(self, execution_id: str) -> list[Json]:
        """Files of an execution."""
        query = {"output_execution": execution_id, "limit": 1000}
        found: list[Json] = (await self.request("GET", "data/", params=query)).json()["results"]
        return found

    async def content(self, datum: Json) -> bytes:
        """The bytes of a file, from its signed URL."""
        url = (await self.request("GET", f"data/{datum['id']}/download/")).json()["url"]
        async with httpx.AsyncClient(timeout=_REQUEST_SECONDS) as anonymous:
            answer = await anonymous.get(url)
        assert answer.status_code == 200, answer.text
        return answer.content


def accepted(seen: Sequence[Seen]) -> list[Seen]:
    """Those that the platform has answered for."""
    return [one for one in seen if one.answers]
