"""The settings of every service of an all-in-one installation, as plain data.

The same data makes the settings objects of services that share a process, and the environment variables of services
that have a process each.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from slipway_allinone.home import Home

Settings = dict[str, Any]

SERVICES = ("gateway", "scheduler", "builder", "logs")
LOOPBACK = ("127.0.0.0/8", "::1/128")
SIGNERS = (*SERVICES, "origin")


@dataclass(frozen=True)
class UpOptions:
    """What the command line says."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    runtime: str = "auto"
    split: bool = False
    public_url: str | None = None
    worker_url: str | None = None
    database_url: str | None = None
    redis_url: str | None = None
    slots: int | None = None
    allow_local_repositories: tuple[Path, ...] = ()
    log_level: str = "WARNING"
    allow_loopback: bool = True
    inference_port: int | None = None
    inference_url: str | None = None

    @property
    def origin_url(self) -> str:
        """The origin that clients and browsers use."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def router_port(self) -> int:
        """The port on which endpoints answer: the one after the platform's, if none is named."""
        return self.inference_port or self.port + 1

    @property
    def endpoints_url(self) -> str:
        """The origin under which endpoints are called."""
        return (self.inference_url or f"http://{self.host}:{self.router_port}").rstrip("/")


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the services' apps, by `<service>.<app>`."""

    by_app: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def pick(cls) -> "Ports":
        """Choose free ports. All are held until the last is chosen, so that no two are the same."""
        apps = [
            *(f"{service}.internal" for service in (*SERVICES, "worker")),
            "gateway.public",
            "gateway.workers",
            "scheduler.workers",
            "logs.public",
            "logs.workers",
            "router.health",
        ]
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in apps]
        chosen = {app: listener.getsockname()[1] for app, listener in zip(apps, sockets, strict=True)}
        for listener in sockets:
            listener.close()
        return cls(chosen)

    def url(self, app: str) -> str:
        """Base URL of an app."""
        return f"http://127.0.0.1:{self.by_app[app]}"

    def of(self, service: str) -> dict[str, int]:
        """The `http` settings of a service."""
        return {f"{app.split('.')[1]}_port": port for app, port in self.by_app.items() if app.split(".")[0] == service}


def service_settings(
    options: UpOptions, home: Home, ports: Ports, database_urls: Mapping[str, str], redis_url: str
) -> dict[str, Settings]:
    """Settings by service name. `database_urls` has one URL per service, with that service's role."""
    neighbours = {name: ports.url(f"{name}.internal") for name in SERVICES}
    local_url = f"http://{_address_for_containers(options.runtime) or '127.0.0.1'}:{options.port}"
    worker_url = options.worker_url or local_url
    store = {
        "type": "local",
        "id": "local",
        "path": str(home.store),
        "signing_key": home.secret("store-signing-key").read_text(),
        "public_url": options.origin_url,
        "worker_url": worker_url,
    }

    def common(name: str) -> Settings:
        return {
            "http": ports.of(name),
            "log": {"level": options.log_level, "json": False},
            "keys": {"private_key_file": str(home.keys / f"{name}.pem"), "trusted_keys_dir": str(home.trusted)},
        }

    def with_servers(name: str) -> Settings:
        return {**common(name), "database": {"url": database_urls[name]}, "redis": {"url": redis_url}}

    gateway_pepper = str(home.secret("gateway-token-pepper"))
    return {
        "gateway": {
            **with_servers("gateway"),
            "neighbours": neighbours,
            "public_url": options.origin_url,
            "worker_url": worker_url,
            "secret_key_file": str(home.secret("gateway-secret-key")),
            "older_secret_keys_dir": str(home.older_secret_keys),
            "token_pepper_file": gateway_pepper,
            "store": store,
            "upload_dir": str(home.uploads),
            "git": {
                "cache_dir": str(home.git_cache),
                "allow_local_paths": [str(path) for path in options.allow_local_repositories],
            },
            "egress": {"allow_control_plane": list(LOOPBACK) if options.allow_loopback else []},
        },
        "scheduler": {
            **with_servers("scheduler"),
            "neighbours": neighbours,
            "token_pepper_file": str(home.secret("scheduler-token-pepper")),
        },
        "logs": {**with_servers("logs"), "store": store, "token_pepper_file": gateway_pepper},
        "builder": {
            **with_servers("builder"),
            "neighbours": neighbours,
            "secret_key_file": str(home.secret("builder-secret-key")),
            "work_dir": str(home.serving / "builds"),
            "docker": {
                "installation": hashlib.sha256(str(home.root).encode()).hexdigest()[:16],
                "ends_with_builder": True,
            },
            "process": {"home": str(home.serving), "ends_with_builder": True, "hidden": [str(home.root)]},
        },
        "worker": {
            "http": ports.of("worker"),
            "log": {"level": options.log_level, "json": False},
            "server_url": options.worker_url or f"http://127.0.0.1:{options.port}",
            "group_token_file": str(home.keys / "worker-group-token"),
            "home": str(home.worker),
            "runtime": options.runtime,
            "slots": options.slots or os.cpu_count() or 1,
            "container": {**_trust_of_this_shell(), "mount_roots": ["/"], "hidden": [str(home.root)]},
        },
        **{
            name: {
                "http": {"host": host, "public_port": options.port},
                "log": {"level": options.log_level, "json": False},
                "upstreams": {
                    app: ports.url(app) for app in ports.by_app if app.split(".")[1] in {"public", "workers"}
                },
            }
            for name, host in _origin_hosts(options).items()
        },
    }


def router_settings(options: UpOptions, home: Home, ports: Ports, target_id: UUID) -> Settings:
    """Settings of the router beside the platform, which answers for the endpoints of the local target."""
    return {
        "builder_url": ports.url("builder.internal"),
        "token_file": str(home.secret("router-token")),
        "target_id": str(target_id),
        "router_id": "local",
        "state_dir": str(home.serving / "router"),
        "host": options.host,
        "port": options.router_port,
        "health_port": ports.by_app["router.health"],
        "log_level": options.log_level,
        "log_json": False,
    }


ORIGINS = ("origin", "origin_for_containers")


def _origin_hosts(options: UpOptions) -> dict[str, str]:
    """Where the origin listens: at the chosen address, and where containers can reach this machine."""
    bridge = _address_for_containers(options.runtime)
    hosts = {ORIGINS[0]: options.host}
    if bridge is not None and options.host not in {bridge, "0.0.0.0", "::"}:
        hosts[ORIGINS[1]] = bridge
    return hosts


def _address_for_containers(runtime: str) -> str | None:
    """This machine's address on Docker's default bridge: inside a container, 127.0.0.1 is the container."""
    if runtime not in {"auto", "docker"}:
        return None
    addresses = psutil.net_if_addrs().get("docker0", [])
    return next((one.address for one in addresses if one.family == socket.AF_INET), None)


_CERTIFICATE_VARIABLES = ("SLIPWAY_CA_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_PASSED_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def _trust_of_this_shell() -> Settings:
    """Runs get the proxies, package index and certificates that this shell uses: behind them, nothing else works."""
    files = (os.environ.get(name) for name in _CERTIFICATE_VARIABLES)
    found = next((file for file in files if file and Path(file).is_file()), None)
    passed = [name for name in _PASSED_VARIABLES if name in os.environ]
    return {"ca_file": found, "pass_environment": passed}


def environment_of(service: str, settings: Settings) -> dict[str, str]:
    """The same settings as environment variables: `SLIPWAY_<SERVICE>__<GROUP>__<KEY>`."""
    return dict(_flatten(f"SLIPWAY_{service.upper()}", settings))


def _flatten(prefix: str, value: object) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(f"{prefix}__{str(key).upper()}", inner)
    elif isinstance(value, list | tuple):
        yield prefix, json.dumps(value)
    elif value is not None:
        yield prefix, str(value)
