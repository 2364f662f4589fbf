"""Notices that the cloud takes this machine back, as each cloud's metadata service gives them to the machine."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from slipway_kit.clock import Clock
from slipway_kit.http import OutsideError, outside_client
from slipway_kit.logging import get_logger

_LOG = get_logger()
_METADATA: Final = "http://169.254.169.254"
_TIMEOUT_SECONDS: Final = 5.0
_GCP_HOLD_SECONDS: Final = 60
_GCP_NOTICE: Final = timedelta(seconds=30)
_AZURE_TIMEOUT_SECONDS: Final = 130.0
"""The first question of a machine may take two minutes to be answered."""
_UNDATED_NOTICE: Final = timedelta(seconds=60)

ProviderName = Literal["none", "aws", "gcp", "azure", "openstack"]


@dataclass(frozen=True)
class Notice:
    """The machine is taken back at `deadline`; `text` says so in words."""

    deadline: datetime
    text: str


class NoticeUnreadable(Exception):
    """The metadata service gave an answer that cannot be understood."""


class NoticeSource(Protocol):
    """Where one cloud tells a machine that it is taken back."""

    poll_seconds: float

    async def look(self) -> Notice | None:
        """The notice that stands now. Raises `OutsideError`, `OSError` or `NoticeUnreadable`."""

    async def aclose(self) -> None:
        """Let go of connections."""


class _HttpSource:
    """Asks a metadata service, never through a proxy: it answers only the machine itself."""

    def __init__(self, endpoint: str, poll_seconds: float, clock: Clock, timeout: float = _TIMEOUT_SECONDS) -> None:
        self.poll_seconds = poll_seconds
        self._clock = clock
        self._client = outside_client(base_url=endpoint.rstrip("/"), timeout=timeout, use_proxies=False)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._client.aclose()


class AwsSource(_HttpSource):
    """Spot instance actions of EC2, by version 2 of its metadata service: a token first, two minutes of notice."""

    _token = ""

    async def look(self) -> Notice | None:
        """`spot/instance-action` exists only while an interruption stands."""
        for fresh in (False, True):
            if fresh or not self._token:
                lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
                answer = await self._client.put("/latest/api/token", headers=lifetime)
                self._token = answer.raise_for_status().text
            answer = await self._client.get(
                "/latest/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": self._token}
            )
            if answer.status_code != 401:
                break
        if answer.status_code == 404:
            return None
        action = _object(answer.raise_for_status().text)
        deadline = _moment(action.get("time"))
        return Notice(deadline, f"EC2 takes this machine back ({action.get('action')}) at {_shown(deadline)}.")


class GcpSource(_HttpSource):
    """The `preempted` flag of Compute Engine. The question is held until it changes; 30 seconds of notice."""

    _etag = ""
    _noticed: Notice | None = None

    async def look(self) -> Notice | None:
        """The first question is answered at once, the next ones when something changes."""
        params = {"wait_for_change": "true", "last_etag": self._etag, "timeout_sec": str(_GCP_HOLD_SECONDS)}
        answer = await self._client.get(
            "/computeMetadata/v1/instance/preempted",
            params=params if self._etag else None,
            headers={"Metadata-Flavor": "Google"},
        )
        self._etag = answer.raise_for_status().headers.get("etag", "")
        if answer.text.strip().upper() != "TRUE":
            self._noticed = None
        elif self._noticed is None:
            deadline = self._clock.now() + _GCP_NOTICE
            self._noticed = Notice(deadline, f"Compute Engine takes this machine back at {_shown(deadline)}.")
        return self._noticed


class AzureSource(_HttpSource):
    """Scheduled events of kind `Preempt` that name this machine; at least 30 seconds of notice."""

    _name: str | None = None

    async def look(self) -> Notice | None:
        """A scale set's machines see each other's events, so the machine's own name is asked for first."""
        if self._name is None:
            query = {"api-version": "2021-02-01", "format": "text"}
            answer = await self._client.get(
                "/metadata/instance/compute/name", params=query, headers={"Metadata": "true"}
            )
            self._name = answer.raise_for_status().text.strip()
        answer = await self._client.get(
            "/metadata/scheduledevents", params={"api-version": "2020-07-01"}, headers={"Metadata": "true"}
        )
        for event in _object(answer.raise_for_status().text).get("Events", []):
            if event.get("EventType") == "Preempt" and self._name in event.get("Resources", []):
                deadline = _azure_moment(event.get("NotBefore"), self._clock.now())
                return Notice(deadline, f"Azure takes this machine back at {_shown(deadline)}.")
        return None


class OpenStackSource(_HttpSource):
    """A server property of our own, `slipway_preempt_at`: OpenStack itself gives no notice.

    Who takes the machine back sets the property; the machine reads it in its metadata within the cloud's cache time.
    """

    async def look(self) -> Notice | None:
        """The property's value is a time, or anything else for a minute from now."""
        answer = await self._client.get("/openstack/latest/meta_data.json")
        properties = _object(answer.raise_for_status().text).get("meta") or {}
        value = properties.get("slipway_preempt_at")
        return _announced(value, self._clock.now()) if value else None


class FileSource:
    """A file that whoever takes the machine back writes: its content is the time, or nothing for a minute from now."""

    def __init__(self, path: Path, poll_seconds: float, clock: Clock) -> None:
        self.poll_seconds = poll_seconds
        self._path = path
        self._clock = clock

    async def look(self) -> Notice | None:
        """The notice stands while the file exists."""
        try:
            content = await asyncio.to_thread(self._path.read_text)
            written = datetime.fromtimestamp(self._path.stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        return _announced(content.strip(), written)

    async def aclose(self) -> None:
        """Nothing is held."""


def notice_source(
    provider: ProviderName, endpoint: str | None, poll_seconds: float, clock: Clock
) -> NoticeSource | None:
    """The source that the settings name; None for `none`. `endpoint` overrides where the cloud answers."""
    match provider:
        case "none":
            return None
        case "aws":
            return AwsSource(endpoint or _METADATA, poll_seconds, clock)
        case "gcp":
            url = endpoint or "http://metadata.google.internal"
            return GcpSource(url, poll_seconds, clock, timeout=_GCP_HOLD_SECONDS + _TIMEOUT_SECONDS)
        case "azure":
            return AzureSource(endpoint or _METADATA, poll_seconds, clock, timeout=_AZURE_TIMEOUT_SECONDS)
        case "openstack" if endpoint is not None and endpoint.startswith("file://"):
            return FileSource(Path(endpoint.removeprefix("file://")), poll_seconds, clock)
        case "openstack":
            return OpenStackSource(endpoint or _METADATA, poll_seconds, clock)


class PreemptionWatch:
    """Looks for as long as the worker runs, and tells when a notice comes and when it is withdrawn."""

    def __init__(self, source: NoticeSource, tell: Callable[[Notice | None], None]) -> None:
        self._source = source
        self._tell = tell
        self._standing = False
        self._answers = True

    async def run(self) -> None:
        """Look until cancelled. A metadata service that does not answer changes nothing; it is logged once."""
        while True:
            try:
                notice = await self._source.look()
            except (OutsideError, OSError, NoticeUnreadable) as error:
                if self._answers:
                    _LOG.warning("preemption_notices_unreadable", error=f"{type(error).__name__}: {error}")
                self._answers = False
            else:
                self._answers = True
                if (notice is not None) != self._standing:
                    self._standing = notice is not None
                    self._tell(notice)
            await asyncio.sleep(self._source.poll_seconds)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NoticeUnreadable(f"{text[:100]!r} is not JSON") from error
    if not isinstance(found, dict):
        raise NoticeUnreadable(f"{text[:100]!r} is not an object")
    return found


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise NoticeUnreadable(f"{text!r} is no time") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _azure_moment(text: object, now: datetime) -> datetime:
    """`Mon, 19 Sep 2016 18:29:47 GMT`; empty once the event has begun."""
    try:
        return parsedate_to_datetime(str(text))
    except ValueError:
        return now


def _announced(text: str, since: datetime) -> Notice:
    try:
        deadline = _moment(text)
    except NoticeUnreadable:
        deadline = since + _UNDATED_NOTICE
    return Notice(deadline, f"This machine is taken back at {_shown(deadline)}.")


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"
