"""HAProxy's configuration: written once, for everything that changes is in the maps."""

from dataclasses import dataclass
from pathlib import Path

from slipway_builder.router import answers
from slipway_builder.router.answers import Answer
from slipway_builder.router.engines.haproxy_maps import KEYS, ROUTES, SCOPES
from slipway_builder.router.settings import RouterSettings
from slipway_schemas.inference.routing import PREFIX_HEADER, VERSION_HEADER


@dataclass(frozen=True)
class Places:
    """Files and sockets of one HAProxy."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "haproxy.cfg"

    @property
    def admin(self) -> Path:
        """The runtime socket."""
        return self.directory / "admin.sock"

    @property
    def requests(self) -> Path:
        """The socket on which the control process hears of requests."""
        return self.directory / "requests.sock"

    def map(self, name: str) -> Path:
        """A map file."""
        return self.directory / f"{name}.map"


def render(settings: RouterSettings, places: Places, listener: int, max_connections: int) -> str:
    """The whole configuration; `listener` is the number of the inherited listening socket."""
    waits = settings.timeouts
    secure = f" ssl crt {settings.tls_certificate} alpn h2,http/1.1" if settings.tls_certificate else ""
    threads = f"    nbthread {settings.threads}\n" if settings.threads else ""
    failures = "\n".join(
        f"    http-error status {status} content-type {answers.PROBLEM_TYPE} string {_quoted(answer.body)}"
        for status, answer in answers.FAILURES.items()
    )
    return f"""global
    log ring@requests format raw local0
    stats socket unix@{places.admin} mode 600 level admin
    maxconn {max_connections}
{threads}    hard-stop-after 5s

# One line per answered request, for the control process; when it is away, the oldest lines are lost.
ring requests
    format raw
    maxlen 1024
    size 4194304
    timeout connect 5s
    timeout server 10s
    server control unix@{places.requests} log-proto legacy

defaults
    mode http
    log global
    option http-keep-alive
    # Counted when the answer begins, so that streams count before they end.
    option logasap
    http-reuse safe
    retries 3
    retry-on conn-failure empty-response
    timeout connect {_ms(waits.connect)}
    timeout client {_ms(waits.answer)}
    timeout server {_ms(waits.answer)}
    timeout http-request {_ms(waits.head)}
    timeout http-keep-alive {_ms(waits.keep_alive)}
    timeout tunnel {_ms(waits.tunnel)}
{failures}

backend limits
    stick-table type string len 84 size 200k expire 70s store gpc0

frontend requests
    bind fd@{listener}{secure}
    log-format "%[var(txn.route),field(1,|)] %[var(txn.backend),field(4,|)] %[var(txn.key_id)] %ST %Tc %Tr"
{_rules(settings, places)}
    http-after-response set-header {VERSION_HEADER} %[var(txn.backend),field(3,|)] if {{ var(txn.backend) -m found }}
    http-after-response del-header {VERSION_HEADER} unless {{ var(txn.backend) -m found }}
    default_backend pods

backend pods
    server any 0.0.0.0:0
"""


def _rules(settings: RouterSettings, places: Places) -> str:
    routes, keys, scopes = (places.map(name) for name in (ROUTES, KEYS, SCOPES))
    trusted = " ".join(str(one) for one in settings.trusted_proxies)
    closed, limited = "{ var(txn.access) -m str closed }", "{ var(txn.limit) -m int gt 0 }"
    challenge = f"hdr WWW-Authenticate {_quoted(answers.CHALLENGE)}"
    own_deployment = "{ var(txn.key),field(2,|),strcmp(txn.deployment) eq 0 }"
    scoped = "{ var(txn.key),field(5,|) -m str some }"
    in_scope = f"{{ var(txn.hash),concat(/,txn.endpoint),map_str({scopes}) -m found }}"
    no_backend = f'return status 503 content-type {answers.PROBLEM_TYPE} lf-string "{_DETAIL}"'
    retry_after, used_up = 'hdr Retry-After "%[date,mod(60),neg,add(60)]"', "{ sc_get_gpc0(0),sub(txn.limit) ge 0 }"
    forwarded_for = "req.hdr_ip(x-forwarded-for,-1)"
    same_client = "var(txn.route),field(1,|),concat(|,txn.hash,|),concat(,txn.client)"
    canary, second = "{ var(txn.kind) -m str sticky random }", "{ var(txn.draw),sub(txn.share) lt 0 }"
    rules = [
        "acl trusted src " + trusted if trusted else "acl trusted always_false",
        f"http-request set-var(txn.route) path,concat(/),map_beg({routes})",
        f"http-request {_return(answers.NO_ROUTE)} unless {{ var(txn.route) -m found }}",
        f"http-request {_return(answers.KEY_TWICE)} if {{ req.fhdr_cnt(authorization) gt 1 }}",
        f"http-request {_return(answers.KEY_TWICE)} if {{ req.fhdr_cnt(x-api-key) gt 1 }}",
        # A header that holds a key of this router never reaches a pod.
        "http-request set-var(txn.hash) http_auth_bearer,sha2(256),hex,lower",
        f"http-request set-var(txn.key) var(txn.hash),map_str({keys})",
        "http-request del-header authorization if { var(txn.key) -m found }",
        "http-request set-var(txn.own_hash) req.fhdr(x-api-key),sha2(256),hex,lower",
        "http-request unset-var(txn.key) if { var(txn.own_hash) -m found }",
        "http-request set-var(txn.hash) var(txn.own_hash) if { var(txn.own_hash) -m found }",
        f"http-request set-var(txn.key) var(txn.own_hash),map_str({keys}) if {{ var(txn.own_hash) -m found }}",
        "http-request del-header x-api-key if { var(txn.own_hash) -m found } { var(txn.key) -m found }",
        "http-request set-var(txn.access) var(txn.route),field(4,|)",
        f"http-request {_return(answers.KEY_MISSING, challenge)} if {closed} !{{ var(txn.hash) -m found }}",
        f"http-request {_return(answers.KEY_REFUSED)} if {closed} !{{ var(txn.key) -m found }}",
        "http-request set-var(txn.deployment) var(txn.route),field(2,|)",
        f"http-request {_return(answers.KEY_REFUSED)} if {closed} !{own_deployment}",
        "http-request set-var(txn.now) date",
        f"http-request {_return(answers.KEY_EXPIRED)} if {closed} {{ var(txn.key),field(3,|),sub(txn.now) le 0 }}",
        "http-request set-var(txn.endpoint) var(txn.route),field(3,|)",
        f"http-request {_return(answers.KEY_SCOPE)} if {closed} {scoped} !{in_scope}",
        f"http-request set-var(txn.key_id) var(txn.key),field(1,|) if {closed}",
        "http-request set-var(txn.kind) var(txn.route),field(14,|)",
        f"http-request {no_backend} if {{ var(txn.kind) -m str none }}",
        # So many requests in each minute of the clock.
        f"http-request set-var(txn.limit) var(txn.key),field(4,|) if {closed}",
        f"http-request set-var(txn.minute) date,div(60) if {limited}",
        f"http-request track-sc0 var(txn.hash),concat(/,txn.minute) table limits if {limited}",
        f"http-request {_return(answers.RATE_LIMITED, retry_after)} if {limited} {used_up}",
        f"http-request sc-inc-gpc0(0) if {limited}",
        "http-request set-var(txn.client) src",
        f"http-request set-var(txn.client) {forwarded_for} if trusted {{ {forwarded_for} -m found }}",
        # A canary draws a number per request, or one that stays the same for a client and its key.
        "http-request set-var(txn.backend) var(txn.route),field(5,|,4)",
        "http-request set-var(txn.share) var(txn.route),field(13,|)",
        "http-request set-var(txn.draw) rand(10000) if { var(txn.kind) -m str random }",
        f"http-request set-var(txn.draw) {same_client},crc32,mod(10000) if {{ var(txn.kind) -m str sticky }}",
        f"http-request set-var(txn.backend) var(txn.route),field(9,|,4) if {canary} {second}",
        "http-request set-dst var(txn.backend),field(1,|)",
        "http-request set-dst-port var(txn.backend),field(2,|)",
        # The path that decided is the path that the pod gets.
        "http-request set-uri %[pathq] if !{ url_beg / }",
        # WSGI servers take an underscore for a hyphen.
        "http-request del-header x-vh -m beg",
        "http-request del-header x_vh -m beg",
        "http-request del-header x_forwarded -m beg",
        f"http-request set-header {PREFIX_HEADER} %[var(txn.route),field(1,|)]",
        "http-request del-header x-forwarded -m beg unless trusted",
        "http-request del-header forwarded unless trusted",
        "http-request add-header X-Forwarded-For %[src]",
        "http-request set-header X-Forwarded-Proto http unless { ssl_fc } or { req.hdr(x-forwarded-proto) -m found }",
        "http-request set-header X-Forwarded-Proto https if { ssl_fc } !{ req.hdr(x-forwarded-proto) -m found }",
        "http-request set-header X-Forwarded-Host %[req.hdr(host)] unless { req.hdr(x-forwarded-host) -m found }",
        # What may have been carried out is not sent a second time.
        "http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
    ]
    return "\n".join(f"    {rule}" for rule in rules)


_DETAIL = "%[var(txn.route),field(15,|),url_dec]"


def _return(answer: Answer, headers: str = "") -> str:
    extra = f" {headers}" if headers else ""
    body = _quoted(answer.body)
    return f"return status {answer.status} content-type {answers.PROBLEM_TYPE} string {body}{extra}"


def _quoted(text: str) -> str:
    """In single quotes, as HAProxy reads them."""
    return "'" + text.replace("'", "'\\''") + "'"


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
