"""Metrics of a service in its own registry, named `slipway_<service>_<noun>_<unit>[_total]`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ServiceMetrics:
    """What every service measures, and helpers that name further metrics the same way."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        self.registry = registry
        self._prefix = f"slipway_{service.replace('-', '_')}"
        self.http_requests = self.histogram(
            "http_request_seconds",
            "Time from the request to the last byte of the answer.",
            ("method", "route", "status"),
        )
        self.background_failures = self.counter(
            "background_failures_total", "How often a background task raised and was restarted.", ("task",)
        )

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """Make a counter; `name` is `<noun>_<unit>_total` without the service."""
        return Counter(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Make a gauge; `name` is `<noun>_<unit>` without the service."""
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def histogram(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        buckets: tuple[float, ...] = _LATENCY_BUCKETS,
    ) -> Histogram:
        """Make a histogram; `name` is `<noun>_<unit>` without the service."""
        return Histogram(f"{self._prefix}_{name}", text, labels, buckets=buckets, registry=self.registry)

    def loop_gauges(self) -> "LoopGauges":
        """Make the gauges that every service with leased loops has; call it once per service."""
        return LoopGauges(
            handled=self.counter("loop_rows_total", "Rows that a loop handled.", ("loop",)),
            last_run=self.gauge("loop_last_run_seconds", "When a loop last ran, in Unix time.", ("loop",)),
            duration=self.histogram("loop_run_seconds", "How long one run of a loop took.", ("loop",)),
        )


class LoopGauges:
    """How much a loop did, when, and how long it took."""

    def __init__(self, handled: Counter, last_run: Gauge, duration: Histogram) -> None:
        self._handled = handled
        self._last_run = last_run
        self._duration = duration

    def ran(self, loop: str, *, rows: int, seconds: float) -> None:
        """Record one run of `loop` that handled `rows` and took `seconds`."""
        self._handled.labels(loop).inc(rows)
        self._last_run.labels(loop).set_to_current_time()
        self._duration.labels(loop).observe(seconds)
