"""Keeps the values of secrets out of the logs."""

import base64
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = b"*****"
MIN_SECRET_BYTES: Final = 6
MIN_SECRET_LINE_BYTES: Final = 12


def secret_patterns(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """The byte strings to look for: values of 6 bytes and more, their base64 and URL forms, lines of 12 and more."""
    patterns: set[bytes] = set()
    for secret in secrets:
        for value in {secret.encode(), secret.strip().encode()}:
            if len(value) < MIN_SECRET_BYTES:
                continue
            patterns.add(value)
            for encoded in (base64.b64encode(value), base64.urlsafe_b64encode(value)):
                patterns.add(encoded)
                patterns.add(encoded.rstrip(b"="))
            patterns.add(quote(value, safe="").encode())
            patterns.add(quote(value).encode())
            patterns.add(quote_plus(value).encode())
            lines = value.splitlines()
            if len(lines) > 1:
                patterns.update(line for line in lines if len(line) >= MIN_SECRET_LINE_BYTES)
    return tuple(sorted(patterns))


class Redactor:
    """Replaces secrets in one stream. Use one per stream.

    What comes out depends on the bytes alone, not on how they are cut into calls: at each place the longest secret
    that begins there is replaced, from left to right. Held back is only an end that may be the begin of a secret.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._patterns = secret_patterns(secrets)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take more bytes of the stream and give back what is decided."""
        if not self._patterns:
            return data
        return self._run(self._held + data, final=False)

    def flush(self) -> bytes:
        """What was held back, at the end of the stream."""
        return self._run(self._held, final=True)

    def _run(self, data: bytes, *, final: bool) -> bytes:
        hold = len(data) if final else self._undecided(data, 0)
        found = {pattern: data.find(pattern) for pattern in self._patterns}
        pieces: list[bytes] = []
        position = 0
        while True:
            start, end = self._next_match(data, found, position)
            if start >= hold:
                break
            pieces += (data[position:start], MASK)
            position = end
            if end > hold:
                hold = self._undecided(data, end)
        self._held = data[hold:]
        pieces.append(data[position:hold])
        return b"".join(pieces)

    @staticmethod
    def _next_match(data: bytes, found: dict[bytes, int], position: int) -> tuple[int, int]:
        """Start and end of the leftmost, then longest, secret from `position` on."""
        start = end = len(data)
        for pattern, at in list(found.items()):
            if at < 0:
                del found[pattern]
                continue
            if at < position:
                at = found[pattern] = data.find(pattern, position)
                if at < 0:
                    del found[pattern]
                    continue
            if at < start or (at == start and at + len(pattern) > end):
                start, end = at, at + len(pattern)
        return start, end

    def _undecided(self, data: bytes, position: int) -> int:
        """The first place from `position` on where a secret may begin that the data does not hold whole."""
        size = len(data)
        first = size
        for pattern in self._patterns:
            at = data.find(pattern[:1], max(position, size - len(pattern) + 1), first)
            while at >= 0:
                if pattern.startswith(data[at:]):
                    first = at
                    break
                at = data.find(pattern[:1], at + 1, first)
        return first
