"""Fingerprints: equal for the same failure of different runs, different for different failures."""

from hypothesis import given
from hypothesis import strategies as st

from slipway_schemas.failures import fingerprint, is_failure, last_error_line, normalised
from slipway_schemas.lifecycles import EndReason

SAME = [
    ("RuntimeError: loss is nan at step 1203", "RuntimeError: loss is nan at step 7"),
    (
        "OSError: [Errno 28] No space left on device: '/tmp/tmpab3f/model.bin'",
        "OSError: [Errno 28] No space left on device: '/tmp/tmp90xx/model.bin'",
    ),
    (
        "2026-11-21T07:00:01.123Z ERROR worker 0x7f33a1 failed",
        "2026-11-22T19:10:41.923Z ERROR worker 0x1f3e00 failed",
    ),
    (
        "no datum 0193a7f2-6f00-7bbb-8000-0123456789ab",
        "no datum 0193a7f2-6f01-7ccc-8111-ba9876543210",
    ),
    ("checksum d41d8cd98f00b204e9800998ecf8427e is wrong", "checksum 900150983cd24fb0d6963f7d28e17f72 is wrong"),
]


def test_what_differs_between_runs_does_not_count() -> None:
    for one, other in SAME:
        assert fingerprint(EndReason.USER_CODE, 1, one) == fingerprint(EndReason.USER_CODE, 1, other), (one, other)


def test_different_failures_have_different_fingerprints() -> None:
    lines = [*(pair[0] for pair in SAME), "KeyError: 'lr'", "KeyError: 'epochs'", ""]
    found = {fingerprint(reason, 1, line) for line in lines for reason in (EndReason.USER_CODE, EndReason.DISK_FULL)}
    assert len(found) == 2 * len(lines)


def test_without_a_line_the_exit_code_tells_failures_apart() -> None:
    assert fingerprint(EndReason.USER_CODE, 3, "") != fingerprint(EndReason.USER_CODE, 4, "")
    assert fingerprint(EndReason.USER_CODE, 3, "boom") == fingerprint(EndReason.USER_CODE, 4, "boom")


def test_known_value() -> None:
    """Stored with attempts: a change would split groups, so it has to be meant."""
    assert fingerprint(EndReason.USER_CODE, 1, "ValueError: bad value 17") == "b642809c728e1f56"


def test_the_last_line_on_stderr_is_the_error() -> None:
    lines = [
        {"stream": "stderr", "text": "\x1b[31mValueError: no\x1b[0m"},
        {"stream": "stdout", "text": "cleaning up"},
        {"stream": "stderr", "text": "  "},
    ]
    assert last_error_line(lines) == "ValueError: no"
    assert last_error_line(lines[1:]) == "cleaning up"
    assert last_error_line([]) == ""


def test_stops_and_successes_are_no_failures() -> None:
    listed = {reason for reason in EndReason if is_failure(reason)}
    assert {EndReason.USER_CODE, EndReason.DISK_FULL, EndReason.WORKER_LOST} <= listed
    assert not listed & {EndReason.SUCCESS, EndReason.USER, EndReason.TIME_LIMIT, EndReason.NO_OUTPUT}


@given(st.text(max_size=500), st.integers(0, 255))
def test_any_line_has_a_fingerprint_and_normalising_again_changes_nothing(line: str, code: int) -> None:
    assert len(fingerprint(EndReason.USER_CODE, code, line)) == 16
    assert fingerprint(EndReason.USER_CODE, code, line) == fingerprint(EndReason.USER_CODE, code, line)
    assert " ".join(normalised(line).split()) == normalised(line)
