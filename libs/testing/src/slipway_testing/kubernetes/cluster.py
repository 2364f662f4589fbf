"""Starts the cluster's programs, and leaves nothing of them behind."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from slipway_testing.kubernetes.files import API_PORT, FRONT_PROXY, METRICS_PORT, NODE, ClusterFiles, Network
from slipway_testing.tools import TEST_IMAGE, find_tool

INGRESS = "traefik"
"""Name of the ingress controller's program."""

KEDA = ("keda-metrics", "keda-operator")
"""Names of KEDA's programs."""

RUN = Path("/run/slipway-k8s")
"""One folder per cluster of this machine, whoever started it."""

_NETWORKS = 40
_START_SECONDS = 180.0
_END_SECONDS = 10.0
_CGROUPS = Path("/sys/fs/cgroup")


class ClusterError(Exception):
    """The cluster cannot be started; the message ends with what its program said last."""


class Cluster:
    """One node with everything that Kubernetes needs, reachable from this machine at `network.node`."""

    def __init__(self, binaries: Path, network: Network) -> None:
        self._binaries = binaries
        self.network = network
        self.home = RUN / str(network.number)
        self.files = ClusterFiles(self.home, network)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def claim(cls, binaries: Path) -> "Cluster":
        """Take the first free network; what a test run left that ended hard is cleared away first."""
        RUN.mkdir(mode=0o700, exist_ok=True)
        for number in range(_NETWORKS):
            cluster = cls(binaries, Network(number))
            if cluster.home.exists() and cluster._abandoned():
                cluster.stop()
            try:
                cluster.home.mkdir(mode=0o700)
            except FileExistsError:
                continue
            cluster._note("owner.json", _identity(os.getpid()))
            return cluster
        raise ClusterError(
            f"all {_NETWORKS} networks are taken; `python -m slipway_testing.kubernetes down` frees them"
        )

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.files.kubeconfig("admin")

    @property
    def kubectl(self) -> Path:
        """The command of the cluster's version."""
        return self._binaries / "kubectl"

    def disown(self) -> None:
        """Let the cluster outlive this process, until somebody calls `stop`."""
        (self.home / "owner.json").unlink()

    def start(self) -> None:
        """Start everything and wait until the node takes pods. Raises `ClusterError`; then nothing is left."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._make_network()
        self.files.write()
        home, node = self.home, self.network.node
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        etcd = {
            "data-dir": home / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "logger": "zap",
            "log-level": "warn",
        }
        self._run("etcd", find_tool("etcd") or "etcd", *(f"--{key}={value}" for key, value in etcd.items()))
        self._run("containerd", find_tool("containerd") or "containerd", "--config", str(home / "containerd.toml"))
        self._kube(
            "kube-apiserver",
            f"--etcd-servers={client}",
            f"--bind-address={node}",
            f"--advertise-address={node}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={self.network.services}",
            f"--tls-cert-file={home}/api.crt",
            f"--tls-private-key-file={home}/api.key",
            f"--token-auth-file={home}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={home}/accounts.key",
            f"--service-account-signing-key-file={home}/accounts.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={home}/ca.crt",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={home}/front.crt",
            f"--proxy-client-key-file={home}/front.key",
            "--enable-aggregator-routing=true",
            "--profiling=false",
        )
        self.import_archive(self._binaries / "pause.tar")
        self.import_image(TEST_IMAGE)
        self._wait("kube-apiserver", lambda: self._get("/readyz") == b"ok")
        self._kube(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={home}/accounts.key",
            f"--root-ca-file={home}/ca.crt",
            "--leader-elect=false",
            "--horizontal-pod-autoscaler-sync-period=5s",
            f"--flex-volume-plugin-dir={home}/volume-plugins",
        )
        self._kube("kube-scheduler", f"--kubeconfig={self.files.kubeconfig('scheduler')}", "--leader-elect=false")
        self._kube(
            "kubelet",
            f"--config={home}/kubelet.json",
            f"--kubeconfig={self.files.kubeconfig('kubelet')}",
            f"--root-dir={home}/kubelet",
            f"--hostname-override={NODE}",
            f"--node-ip={node}",
        )
        self._kube("kube-proxy", f"--config={home}/proxy.json")
        self._kube(
            "metrics-server",
            *(f"--{kind}kubeconfig={self.kubeconfig}" for kind in ("", "authentication-", "authorization-")),
            f"--cert-dir={home}/metrics",
            f"--secure-port={METRICS_PORT}",
            f"--bind-address={node}",
            "--kubelet-insecure-tls",
            "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=5s",
        )
        self._apply(*self.files.metrics_api())
        self._wait("kubelet", self._node_ready)
        self._wait("kube-controller-manager", self._accounts_ready)

    def _apply(self, *objects: object) -> None:
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "apply", "-f", "-"]
        done = subprocess.run(command, input=content, capture_output=True, timeout=60, check=False)
        if done.returncode != 0:
            raise ClusterError(f"the cluster did not take its own objects: {done.stderr.decode().strip()}")

    def trust_registry(self, name: str, port: int) -> None:
        """Let the node reach a registry of this machine: images that name it are pulled from the host's address."""
        folder = self.home / "registries" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(
            f'[host."https://{self.network.host}:{port}"]\ncapabilities = ["pull", "resolve"]\nskip_verify = true\n'
        )

    def run_on_node(self, name: str, *command: str, ready: Callable[[], bool]) -> None:
        """Start one more program in the node's network and wait until it is ready. `stop` ends it."""
        self._run(name, *command)
        self._wait(name, ready)

    def end_on_node(self, name: str) -> None:
        """End a program that `run_on_node` has started."""
        self._end(name)

    def kill_container(self, container_id: str) -> None:
        """SIGKILL to all processes of a container, by the id that its pod's status names."""
        command = [*self._ctr(), "tasks", "kill", "--all", "--signal", "SIGKILL", container_id.rpartition("/")[2]]
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        if done.returncode != 0:
            raise ClusterError(f"the container was not killed: {done.stderr.decode().strip()}")

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The API server answers nothing inside the block: connections are taken, and that is all."""
        noted = self._noted("kube-apiserver.process")
        if noted is None:
            raise ClusterError("the API server does not run")
        os.kill(noted[0], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(noted[0], signal.SIGCONT)

    def stop(self) -> None:
        """End every process that `start` made, by its id, and remove all that they left. May be repeated."""
        for name in (
            INGRESS,
            *KEDA,
            "metrics-server",
            "kubelet",
            "kube-proxy",
            "kube-scheduler",
            "kube-controller-manager",
            "kube-apiserver",
        ):
            self._end(name)
        for group in self._groups():
            for pid in _members(group):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._end("containerd")
        self._end_shims()
        self._end("etcd")
        for mount in sorted(_mounts_below(self.home), key=len, reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True, timeout=20, check=False)
        for group in sorted(self._groups(), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()
        subprocess.run(["ip", "netns", "del", self.network.name], capture_output=True, timeout=20, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def _make_network(self) -> None:
        net = self.network
        inside = ["-n", net.name]
        for words in (
            ["netns", "add", net.name],
            ["link", "add", net.host_link, "type", "veth", "peer", "name", "eth0", "netns", net.name],
            ["addr", "add", f"{net.host}/30", "dev", net.host_link],
            ["link", "set", net.host_link, "up"],
            [*inside, "addr", "add", f"{net.node}/30", "dev", "eth0"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "route", "add", "default", "via", net.host],
            # A service that kube-proxy does not know yet answers at once; else the packet would leave by the default
            # route, and the connection's entry in the kernel would outlive the rule that comes a moment later.
            [*inside, "route", "add", "unreachable", net.services],
            ["route", "add", net.pods, "via", net.node],
            ["route", "add", net.services, "via", net.node],
        ):
            done = subprocess.run(["ip", *words], capture_output=True, timeout=20, check=False)
            if done.returncode != 0:
                raise ClusterError(f"ip {' '.join(words)}: {done.stderr.decode().strip()}")
        for key in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
            subprocess.run([*self._inside(), "tee", f"/proc/sys/{key}"], input=b"1", capture_output=True, check=True)
        for hierarchy in _hierarchies():
            (hierarchy / net.name).mkdir(exist_ok=True)
        self._copy_cpuset()

    def _copy_cpuset(self) -> None:
        """A new group of the cpuset hierarchy may hold nothing until it names processors and memory nodes."""
        for name in ("cpuset.cpus", "cpuset.mems"):
            source, made = _CGROUPS / "cpuset" / name, _CGROUPS / "cpuset" / self.network.name / name
            if source.exists() and made.exists():
                made.write_text(source.read_text())

    def _inside(self) -> list[str]:
        return [find_tool("nsenter") or "nsenter", f"--net=/run/netns/{self.network.name}"]

    def _kube(self, name: str, *arguments: str) -> None:
        self._run(name, str(self._binaries / name), *arguments)

    def _run(self, name: str, *command: str) -> None:
        path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self._inside(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": path, "HOME": str(self.home), "GOMAXPROCS": "2"},
                start_new_session=True,
            )
        self._children[name] = process
        self._note(f"{name}.process", _identity(process.pid))

    def _note(self, name: str, content: object) -> None:
        (self.home / name).write_text(json.dumps(content))

    def _noted(self, name: str) -> tuple[int, int] | None:
        try:
            pid, started = json.loads((self.home / name).read_text())
        except (OSError, ValueError):
            return None
        return (pid, started) if _identity(pid) == [pid, started] else None

    def _abandoned(self) -> bool:
        return (self.home / "owner.json").exists() and self._noted("owner.json") is None

    def _end(self, name: str) -> None:
        """End one program at once: nothing of the cluster is kept, so nothing has to be put in order."""
        noted, child = self._noted(f"{name}.process"), self._children.get(name)
        if noted is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(noted[0], signal.SIGKILL)
            end = time.monotonic() + _END_SECONDS
            while _identity(noted[0]) == list(noted) and time.monotonic() < end:
                time.sleep(0.02)
        if child is not None:
            child.wait(_END_SECONDS)

    def _end_shims(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"containerd-shim" in words[0] and str(self.files.socket).encode() in words:
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def _groups(self) -> list[Path]:
        tops = [hierarchy / self.network.name for hierarchy in _hierarchies()]
        return [Path(folder) for top in tops if top.is_dir() for folder, _, _ in os.walk(top)]

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):
                if ready():
                    return
            if self._noted(f"{name}.process") is None:
                break
            time.sleep(0.2)
        said = (self.home / f"{name}.log").read_text(errors="replace").splitlines()[-15:]
        raise ClusterError(f"{name} is not ready after {_START_SECONDS:.0f} s or has ended:\n" + "\n".join(said))

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(f"https://{self.network.node}:{API_PORT}{path}")
        request.add_header("Authorization", f"Bearer {self.files.tokens['admin']}")
        trust = ssl.create_default_context(cafile=str(self.home / "ca.crt"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with opener.open(request, timeout=5) as answer:
            return bytes(answer.read())

    def _node_ready(self) -> bool:
        status = json.loads(self._get(f"/api/v1/nodes/{NODE}")).get("status", {})
        return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))

    def _accounts_ready(self) -> bool:
        return b'"name":"default"' in self._get("/api/v1/namespaces/default/serviceaccounts").replace(b" ", b"")

    def _ctr(self) -> list[str]:
        return [find_tool("ctr") or "ctr", "--address", str(self.files.socket), "--namespace", "k8s.io"]

    def import_archive(self, archive: Path) -> None:
        """Give the node an image that `docker save` wrote."""
        self._wait("containerd", self.files.socket.exists)
        command = [*self._ctr(), "images", "import", str(archive)]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        if done.returncode != 0:
            raise ClusterError(f"containerd did not take {archive}: {done.stderr.decode().strip()}")

    def import_image(self, image: str) -> None:
        """Give the node an image of the Docker engine."""
        save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        try:
            command = [*self._ctr(), "images", "import", "-"]
            done = subprocess.run(command, stdin=save.stdout, capture_output=True, timeout=180, check=False)
        finally:
            save.kill()
            save.communicate()
        if done.returncode != 0:
            raise ClusterError(f"containerd did not take {image}: {done.stderr.decode().strip()}")


def started_clusters(binaries: Path) -> Iterator[Cluster]:
    """All clusters of this machine."""
    for number in range(_NETWORKS):
        cluster = Cluster(binaries, Network(number))
        if cluster.home.exists():
            yield cluster


def _identity(pid: int) -> list[int]:
    """A process id with its start time: ids are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [pid, -1]
    return [pid, -1 if fields[0] == "Z" else int(fields[19])]


def _hierarchies() -> list[Path]:
    """The one hierarchy of control groups of version 2, or the many of version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists()]


def _members(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _mounts_below(home: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{home}/")]
