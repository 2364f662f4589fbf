"""HAProxy's configuration: written once, for everything that changes is in the maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway_builder.router import answers
from slipway_builder.router.answers import Answer
from slipway_builder.router.engines.haproxy_maps import CANARIES, HASHES, KEYS, ROUTES, SCOPES
from slipway_builder.router.load import RECENT_SECONDS
from slipway_builder.router.settings import RouterSettings
from slipway_schemas.inference.routing import PREFIX_HEADER, VERSION_HEADER

PLAIN = "plain"
SPECIAL = "special"
WAKING = "waking"
REFUSED = "refused"
LOAD = "load"
"""The table of requests by endpoint, for those that may be asleep."""
SOCKETS = "sockets"
"""Folder of the socket that HAProxy makes itself."""


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
        return self.directory / SOCKETS / "admin.sock"

    @property
    def certificate(self) -> Path:
        """A copy of the certificate with its key: HAProxy may not be able to read the file itself."""
        return self.directory / "certificate.pem"

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
    pause = min(waits.connect, _WAKE_PAUSE_SECONDS)
    later = f"hdr Retry-After {answers.TRY_AGAIN_SECONDS}"
    secure = f" ssl crt {places.certificate} alpn h2,http/1.1" if settings.tls_certificate else ""
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

backend {LOAD}
    stick-table type string len 36 size 100k expire 1m store conn_cur,http_req_rate({RECENT_SECONDS}s)

frontend requests
    bind fd@{listener}{secure}
    log-format "{_REQUEST_LINE}"
    http-request set-var(txn.route) path,concat(/),map_beg({places.map(ROUTES)})
    http-request set-var(txn.shown) req.fhdr(x-api-key)
    http-request set-var(txn.shown) http_auth_bearer unless {{ var(txn.shown) -m found }}
    # A kept connection mostly shows the same key again, and hashing is the dearest thing here.
    acl hashed var(txn.shown),secure_memcmp(sess.shown)
    http-request set-var(sess.hash) var(txn.shown),sha2(256),hex if !hashed
    http-request set-var(sess.shown) var(txn.shown) if !hashed
    http-request set-var(txn.hash) var(sess.hash) if {{ var(txn.shown) -m found }}
    http-request set-var(txn.key) var(txn.route),field(2,|),concat(/,txn.hash),map_str({places.map(KEYS)})
    use_backend {PLAIN} if {{ var(txn.key) -m beg plain }} {{ var(txn.route),field(4,|) plain }}
    acl passes var(txn.route),field(3,|) public
    acl passes var(txn.key) -m found
    use_backend {WAKING} if passes {{ var(txn.route),field(4,|) waking }}
    use_backend {SPECIAL} if passes
    default_backend {REFUSED}

# One version behind the address and a key without an end: most requests, so what they need is all that stands here.
backend {PLAIN}
{_lines(_remove_key(places, PLAIN))}
{_lines(_forward(settings))}
    http-after-response set-header {VERSION_HEADER} %[var(txn.route),field(7,|)]

# Everything else that may pass: public endpoints, keys with an end, a rate or a scope, canaries, no backends.
backend {SPECIAL}
{_lines(_special(settings, places))}
{_lines(_forward(settings))}
    http-after-response set-header {VERSION_HEADER} %[var(txn.route),field(7,|)] if {{ var(txn.passed) -m found }}

# The same for endpoints that may be asleep. Nobody takes connections until a replica runs; nothing has been sent then,
# so each request is tried again. It has a connection of its own, as those to a replica that is gone are closed.
backend {WAKING}
    retry-on conn-failure
    retries {max(1, round(waits.wake / pause))}
    timeout connect {_ms(pause)}
    http-reuse never
    http-error status 503 content-type {answers.PROBLEM_TYPE} string {_quoted(answers.NOT_AWAKE.body)} {later}
{_lines(_special(settings, places))}
    http-request track-sc1 var(txn.route),field(13,|) table {LOAD} if {{ var(txn.route),field(13,|) -m len gt 0 }}
{_lines(_forward(settings))}
    http-after-response set-header {VERSION_HEADER} %[var(txn.route),field(7,|)] if {{ var(txn.passed) -m found }}

backend {REFUSED}
{_lines(_refused(places))}
"""


def _special(settings: RouterSettings, places: Places) -> list[str]:
    public, closed = "{ var(txn.route),field(3,|) public }", "{ var(txn.route),field(3,|) closed }"
    metered, limited = f"{closed} {{ var(txn.key) -m beg metered }}", "{ var(txn.limit) -m int gt 0 }"
    in_scope = f"{{ var(txn.hash),concat(/,txn.endpoint),map_str({places.map(SCOPES)}) -m found }}"
    kind, used_up = "var(txn.route),field(9,|)", "{ sc_get_gpc0(0),sub(txn.limit) ge 0 }"
    retry_after = 'hdr Retry-After "%[date,mod(60),neg,add(60)]"'
    no_backend = f'return status 503 content-type {answers.PROBLEM_TYPE} lf-string "%[{_DETAIL}]"'
    same_client = "var(txn.route),field(1,|),concat(|,txn.hash,|),concat(,txn.client),crc32,mod(10000)"
    drawn = f"{{ {kind} sticky random }} {{ var(txn.draw),sub(txn.share) lt 0 }}"
    canary = f"var(txn.prefix),map_str({places.map(CANARIES)})"
    forwarded_for = f"{_FORWARDED_FOR} if {_trusted(settings)} {{ {_FORWARDED_FOR} -m found }}"
    return [
        *_remove_key(places, SPECIAL),
        f"http-request unset-var(txn.key) if {public}",
        "http-request set-var(txn.now) date",
        f"http-request {_return(answers.KEY_EXPIRED)} if {metered} {{ var(txn.key),field(3,|),sub(txn.now) le 0 }}",
        "http-request set-var(txn.endpoint) var(txn.route),field(12,|)",
        f"http-request {_return(answers.KEY_SCOPE)} if {metered} {{ var(txn.key),field(5,|) some }} !{in_scope}",
        f"http-request {no_backend} if {{ {kind} none }}",
        # So many requests in each minute of the clock.
        f"http-request set-var(txn.limit) var(txn.key),field(4,|) if {metered}",
        f"http-request set-var(txn.minute) date,div(60) if {limited}",
        f"http-request track-sc0 var(txn.hash),concat(/,txn.minute) table limits if {limited}",
        f"http-request {_return(answers.RATE_LIMITED, retry_after)} if {limited} {used_up}",
        f"http-request sc-inc-gpc0(0) if {limited}",
        # A canary draws a number per request, or one that stays the same for a client and its key.
        "http-request set-var(txn.client) src",
        *([f"http-request set-var(txn.client) {forwarded_for}"] if settings.trusted_proxies else []),
        "http-request set-var(txn.share) var(txn.route),field(10,|)",
        f"http-request set-var(txn.draw) rand(10000) if {{ {kind} random }}",
        f"http-request set-var(txn.draw) {same_client} if {{ {kind} sticky }}",
        "http-request set-var(txn.prefix) var(txn.route),field(1,|)",
        f"http-request set-var(txn.route) {canary} if {drawn}",
        "http-request set-var(txn.passed) str(passed)",
    ]


def _refused(places: Places) -> list[str]:
    """Why there is no way on."""
    challenge = f"hdr WWW-Authenticate {_quoted(answers.CHALLENGE)}"
    return [
        f"http-request {_return(answers.NO_ROUTE)} unless {{ var(txn.route) -m found }}",
        f"http-request {_return(answers.KEY_MISSING, challenge)} unless {{ var(txn.hash) -m found }}",
        f"http-request {_return(answers.KEY_REFUSED)}",
    ]


def _remove_key(places: Places, path: str) -> list[str]:
    """Rules that let no key of this router reach a pod. What else is in these headers is the endpoint's own."""
    known = f"sha2(256),hex,map_str({places.map(HASHES)}) -m found"
    rules = [f"http-request del-header authorization if {{ http_auth_bearer,{known} }}"]
    if path == SPECIAL:
        return [*rules, f"http-request del-header x-api-key if {{ req.fhdr(x-api-key),{known} }}"]
    # Here one of the two was the key that opened the endpoint, so it need not be looked for.
    return [
        "http-request del-header authorization if { req.fhdr_cnt(x-api-key) eq 0 }",
        *rules,
        "http-request del-header x-api-key",
    ]


def _forward(settings: RouterSettings) -> list[str]:
    """How a request that may pass goes on."""
    scheme = "https" if settings.tls_certificate else "http"
    # WSGI servers take an underscore for a hyphen.
    foreign, proto = ["del-header ^(x[-_](vh|forwarded)|forwarded$) -m reg"], ""
    if settings.trusted_proxies:
        trusted = _trusted(settings)
        proto = f" unless {trusted} {{ req.hdr(x-forwarded-proto) -m found }}"
        foreign = [
            "del-header ^x(-vh|_vh|_forwarded) -m reg",
            f"del-header ^(x-forwarded|forwarded$) -m reg unless {trusted}",
        ]
    return [
        "http-request set-dst var(txn.route),field(5,|)",
        "http-request set-dst-port var(txn.route),field(6,|)",
        # The path that decided is the path that the pod gets.
        "http-request set-uri %[pathq] if !{ url_beg / }",
        *(f"http-request {rule}" for rule in foreign),
        f"http-request set-header {PREFIX_HEADER} %[var(txn.route),field(1,|)]",
        "http-request add-header X-Forwarded-For %[src]",
        f"http-request set-header X-Forwarded-Proto {scheme}{proto}",
        # What may have been carried out is not sent a second time, nor what has a body.
        f"http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }} {' '.join(_NO_BODY)}",
        "server any 0.0.0.0:0",
    ]


def _trusted(settings: RouterSettings) -> str:
    return f"{{ src {' '.join(str(one) for one in settings.trusted_proxies)} }}"


_WAKE_PAUSE_SECONDS = 0.5
"""HAProxy pauses as long after a refused connection as it waits for one that is neither taken nor refused."""
_DETAIL = "var(txn.route),field(11,|),url_dec"
_REQUEST_LINE = (
    "%[var(txn.route),field(1,|)] %[var(txn.route),field(8,|)] %[var(txn.key),field(2,|)] "
    "%ST %Tc %Tr %b %[var(txn.passed)]"
)
_NO_BODY = ("!{ req.fhdr(content-length) -m found }", "!{ req.fhdr(transfer-encoding) -m found }")
_FORWARDED_FOR = "req.hdr_ip(x-forwarded-for,-1)"


def _lines(rules: Sequence[str]) -> str:
    return "\n".join(f"    {rule}" for rule in rules)


def _return(answer: Answer, headers: str = "") -> str:
    extra = f" {headers}" if headers else ""
    body = _quoted(answer.body)
    return f"return status {answer.status} content-type {answers.PROBLEM_TYPE} string {body}{extra}"


def _quoted(text: str) -> str:
    """In single quotes, as HAProxy reads them."""
    return "'" + text.replace("'", "'\\''") + "'"


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
