"""Groups of tests that need something of the machine: marker, check, skip or fail, and the closing summary.

A test marked with a group whose need is absent is skipped and says why. Naming the group in
`SLIPWAY_TEST_REQUIRE` (comma list) turns that skip into a failure: CI must not go green by skipping.
`SLIPWAY_TEST_EXPECT_SKIPS` (comma list, may be empty) fails the run when other groups than these were skipped.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from slipway_testing.kubernetes.programs import keda_problem, kubernetes_problem
from slipway_testing.tools import TEST_IMAGE, find_tool
from slipway_testing.vh import vh_problem

REQUIRE_VARIABLE = "SLIPWAY_TEST_REQUIRE"
EXPECT_VARIABLE = "SLIPWAY_TEST_EXPECT_SKIPS"
PROPERTY = "slipway_group"
NO_GROUP = "no group"
CHECK_SECONDS = 20.0


@dataclass(frozen=True)
class Group:
    """One need. `problem` gives None when it is met, else the reason and how to meet it."""

    about: str
    problem: Callable[[pytest.Config], str | None]


def _answers(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHECK_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _docker(config: pytest.Config) -> str | None:
    if not _answers("docker", "version", "--format", "{{.Server.Version}}"):
        return "no Docker engine answers; install docker.io and start dockerd"
    if not _answers("docker", "image", "inspect", TEST_IMAGE):
        return f"the engine does not have the image {TEST_IMAGE}; .ci/install makes it"
    return None


def _s3(config: pytest.Config) -> str | None:
    wanted = ("SLIPWAY_TEST_S3_ENDPOINT", "SLIPWAY_TEST_S3_ACCESS_KEY", "SLIPWAY_TEST_S3_SECRET_KEY")
    missing = [name for name in wanted if not os.environ.get(name)]
    if not missing:
        return None
    return f"no S3 server is named; set {', '.join(missing)}, or use .ci/run, which starts one"


def _ssh(config: pytest.Config) -> str | None:
    missing = [name for name in ("ssh", "ssh-keygen", "sshd") if not find_tool(name)]
    return f"{', '.join(missing)} not installed; apt-get install openssh-server" if missing else None


def _bwrap(config: pytest.Config) -> str | None:
    if not find_tool("bwrap"):
        return "bwrap is not installed; apt-get install bubblewrap"
    if _answers("bwrap", "--ro-bind", "/", "/", "--unshare-pid", "true"):
        return None
    return "bwrap cannot make a sandbox here; allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)"


def _redis(config: pytest.Config) -> str | None:
    return None if find_tool("redis-server") else "redis-server is not installed; apt-get install redis-server"


def _netns(config: pytest.Config) -> str | None:
    if os.geteuid() != 0:
        return "network namespaces with links between them need root"
    if not find_tool("ip"):
        return "ip is not installed; apt-get install iproute2"
    if _answers("unshare", "--net", "true"):
        return None
    return "no network namespace can be made here; give the tests CAP_NET_ADMIN and CAP_SYS_ADMIN"


def _mounts(config: pytest.Config) -> str | None:
    return None if os.geteuid() == 0 else "small disks to fill can only be mounted by root"


def _faketime(config: pytest.Config) -> str | None:
    found = any(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return None if found else "libfaketime is not installed; apt-get install libfaketime"


def _registry(config: pytest.Config) -> str | None:
    missing = [name for name in ("docker-registry", "htpasswd") if not find_tool(name)]
    return f"{', '.join(missing)} not installed; apt-get install docker-registry apache2-utils" if missing else None


def _kubernetes(config: pytest.Config) -> str | None:
    return kubernetes_problem(config.rootpath)


def _keda(config: pytest.Config) -> str | None:
    return keda_problem(config.rootpath)


def _chromium(config: pytest.Config) -> str | None:
    if any(find_tool(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return None
    return "no browser is installed; apt-get install chromium"


def _haproxy(config: pytest.Config) -> str | None:
    return None if find_tool("haproxy") else "haproxy is not installed; apt-get install haproxy"


def _go(config: pytest.Config) -> str | None:
    return None if find_tool("go") else "Go is not installed; see https://go.dev/doc/install"


def _vh(config: pytest.Config) -> str | None:
    return vh_problem(config.rootpath)


GROUPS: Mapping[str, Group] = MappingProxyType(
    {
        "docker": Group("needs a Docker engine", _docker),
        "s3": Group("needs a real S3 server", _s3),
        "ssh": Group("needs OpenSSH's client and server", _ssh),
        "bwrap": Group("needs bubblewrap sandboxes", _bwrap),
        "redis": Group("needs Debian's redis-server", _redis),
        "netns": Group("needs network namespaces", _netns),
        "mounts": Group("needs to mount small disks", _mounts),
        "faketime": Group("needs libfaketime", _faketime),
        "registry": Group("needs Debian's docker-registry", _registry),
        "kubernetes": Group("needs a Kubernetes cluster", _kubernetes),
        "keda": Group("needs KEDA", _keda),
        "chromium": Group("needs a Chromium browser", _chromium),
        "haproxy": Group("needs HAProxy", _haproxy),
        "go": Group("needs the Go toolchain", _go),
        "vh": Group("needs the published vh command (fetched once)", _vh),
    }
)


def named_groups(variable: str) -> frozenset[str]:
    """The groups that an environment variable names. Raises pytest.UsageError for a name that is no group."""
    names = frozenset(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
    unknown = names - GROUPS.keys()
    if unknown:
        raise pytest.UsageError(f"{variable} names {', '.join(sorted(unknown))}; the groups are {', '.join(GROUPS)}")
    return names


class GroupRules:
    """Applies the groups to a run; one instance per pytest process, which remembers the checks' answers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._required = named_groups(REQUIRE_VARIABLE)
        self._expected = named_groups(EXPECT_VARIABLE) if EXPECT_VARIABLE in os.environ else None
        self._problems: dict[str, str | None] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for name, group in GROUPS.items():
            if item.get_closest_marker(name) is None:
                continue
            if name not in self._problems:
                self._problems[name] = group.problem(self._config)
            problem = self._problems[name]
            if problem is None:
                continue
            if name in self._required:
                pytest.fail(f"group {name} is required by {REQUIRE_VARIABLE}, but {problem}", pytrace=False)
            item.user_properties.append((PROPERTY, f"{name}\n{problem}"))
            pytest.skip(f"{name}: {problem}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._expected is None or hasattr(self._config, "workerinput"):
            return
        if self._skipped_groups() != self._expected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        skipped = self._skips()
        if skipped:
            terminalreporter.section("groups that did not run")
        for entry, count in sorted(skipped.items()):
            name, _, problem = entry.partition("\n")
            tests = "1 test" if count == 1 else f"{count} tests"
            terminalreporter.line(f"{name}: {tests} skipped: {problem}")
        if self._expected is not None and (found := self._skipped_groups()) != self._expected:
            terminalreporter.section("the skipped groups are not the expected ones", red=True)
            terminalreporter.line(f"expected: {_listed(self._expected)}; skipped: {_listed(found)}")

    def _skips(self) -> Counter[str]:
        """How many tests were skipped, by group and reason."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        reports = [] if reporter is None else reporter.stats.get("skipped", [])
        return Counter(str(value) for report in reports for key, value in report.user_properties if key == PROPERTY)

    def _skipped_groups(self) -> frozenset[str]:
        """Names of the groups that were skipped; `no group` stands for tests that skipped themselves."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        reports = [] if reporter is None else reporter.stats.get("skipped", [])
        stray = any(all(key != PROPERTY for key, _ in report.user_properties) for report in reports)
        names = {entry.partition("\n")[0] for entry in self._skips()}
        return frozenset(names | {NO_GROUP} if stray else names)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
