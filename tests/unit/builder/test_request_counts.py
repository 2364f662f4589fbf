"""Request lines become counts by version, latency buckets and key uses."""

from uuid import UUID

from slipway_builder.router.counting import RequestCounts

V1, K1 = UUID(int=1), UUID(int=2)
PREFIX = "/a/b/c/d/e"


def _line(status: int, ms: int, key: str = "-", how: str = "plain -", connect: int = 0) -> bytes:
    return f"{PREFIX}/ {V1} {key} {status} {connect} {ms} {how}".encode()


def test_lines_are_counted() -> None:
    counts = RequestCounts(lambda: 1000.0)
    counts.feed(b"\n".join([_line(200, 0), _line(200, 0), _line(200, 3, str(K1)), _line(404, 7), _line(502, -1)]))
    counts.feed(_line(503, 6000, connect=10, how="special passed"))
    report = counts.report()
    (one,) = report.counts
    assert (one.prefix, one.version_id, one.requests) == (PREFIX, V1, 6)
    assert (one.client_errors, one.server_errors) == (1, 2)
    assert (one.latency_ms_sum, one.latency_ms_max) == (6020, 6010)
    assert one.buckets == (3, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert [(use.key_id, use.at) for use in report.key_uses] == [(K1, 1000)]
    assert counts.report().counts == ()


def test_refusals_and_noise_count_for_no_version() -> None:
    counts = RequestCounts()
    counts.feed(b"\n".join([_line(429, -1, str(K1), "special -"), b"- - - 401 -1 -1 refused -", b"noise", b""]))
    report = counts.report()
    assert (report.counts, report.key_uses) == ((), ())
    assert counts.refused == {429: 1, 401: 1}


def test_a_report_that_was_not_heard_is_kept() -> None:
    counts = RequestCounts(lambda: 1000.0)
    counts.feed(_line(200, 4, str(K1)))
    first = counts.report()
    counts.feed(_line(500, 8))
    counts.put_back(first)
    (one,) = counts.report().counts
    assert (one.requests, one.server_errors, one.latency_ms_sum, sum(one.buckets)) == (2, 1, 12, 2)


def test_sums_for_prometheus_outlive_reports_until_the_version_is_gone() -> None:
    counts = RequestCounts()
    counts.feed(_line(200, 4))
    counts.report()
    counts.feed(_line(200, 4))
    found = {name: value for name, labels, value in counts.samples() if labels.get("le", "+Inf") == "+Inf"}
    assert found["slipway_router_requests_total"] == 2
    assert found["slipway_router_latency_seconds_bucket"] == 2
    counts.forget(lambda prefix, version_id: False)
    assert list(counts.samples()) == []
