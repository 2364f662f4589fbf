"""Lines as events of the API: `{stream, time, message}` (contract 1.3, 'Event rules')."""

import msgspec

from slipway_logs.attempts import Transition
from slipway_logs.frames import Frame
from slipway_logs.times import iso_utc, time_us_of
from slipway_schemas.logs import LogStream

_LABELS = {int(stream): stream.label for stream in LogStream}


class LogEvent(msgspec.Struct):
    """One line of the compatible API."""

    stream: str
    time: str
    message: str


class NumberedLine(msgspec.Struct):
    """One line of the live stream: `line` is the cursor with which a reader comes back."""

    line: int
    stream: str
    time: str
    message: str


def message_of(line: bytes) -> str:
    """A line's text without its end. Bytes that are not UTF-8 are shown as the replacement character."""
    return line.rstrip(b"\r\n").decode("utf-8", "replace")


def events_of(frame: Frame, first: int, end: int) -> list[LogEvent]:
    """Lines `first` up to, not including, `end` of the attempt, as far as this frame holds them."""
    label, start, time_us = _LABELS[frame.header.stream], frame.header.first, frame.header.time_us
    return [
        LogEvent(label, iso_utc(time_us + index), message_of(line))
        for index, line in enumerate(frame.lines())
        if first <= start + index < end
    ]


def numbered_lines(frame: Frame, first: int, end: int, offset: int) -> list[NumberedLine]:
    """The same, numbered from `offset` (the lines of earlier attempts) on."""
    label, start, time_us = _LABELS[frame.header.stream], frame.header.first, frame.header.time_us
    return [
        NumberedLine(offset + start + index, label, iso_utc(time_us + index), message_of(line))
        for index, line in enumerate(frame.lines())
        if first <= start + index < end
    ]


_SENTENCES = {
    "created": "Execution created.",
    "queued": "Queued.",
    "started": "A worker has taken the execution.",
    "stopping": "Stopping.",
    "stopped": "Stopped.",
    "complete": "Complete.",
    "error": "Ended with an error.",
    "crashed": "Crashed.",
}


def transition_event(transition: Transition) -> LogEvent:
    """A change of status as a status line."""
    sentence = _SENTENCES.get(transition.after, transition.after)
    if transition.before in {"started", "queued"} and transition.after == "queued":
        # The message says it all: which attempt comes, and why.
        sentence = "" if transition.message else "Queued again."
    if transition.message:
        sentence = f"{sentence} {transition.message}".lstrip()
    return LogEvent("status", iso_utc(time_us_of(transition.at)), sentence)
