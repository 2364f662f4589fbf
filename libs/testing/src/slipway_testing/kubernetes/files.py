"""The files that the cluster's programs read: keys, tokens, kubeconfigs, and their settings."""

import json
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from slipway_testing.kubernetes.programs import CNI_PLUGINS

PAUSE_IMAGE = "docker.io/slipway-test/pause:1"
NODE = "slipway"
API_PORT = 6443
METRICS_PORT = 4443
FRONT_PROXY = "front-proxy"
"""The API server's name towards the servers that add to its API."""

_USERS = {
    "admin": ("slipway-admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
}
_FIRST_NETWORK = 200


@dataclass(frozen=True)
class Network:
    """The addresses of one cluster: its link to the host, its pods, its services."""

    number: int

    @property
    def name(self) -> str:
        """The network namespace."""
        return f"slipway-k8s-{self.number}"

    @property
    def host_link(self) -> str:
        """Name of the host's end of the link."""
        return f"slipway-k8s{self.number}"

    def _address(self, rest: str) -> str:
        return f"10.{_FIRST_NETWORK + self.number}.{rest}"

    @property
    def host(self) -> str:
        """The host, as pods see it."""
        return self._address("0.1")

    @property
    def node(self) -> str:
        """The node and the API server."""
        return self._address("0.2")

    @property
    def pods(self) -> str:
        """Network of the pods."""
        return self._address("64.0/18")

    @property
    def services(self) -> str:
        """Network of the services."""
        return self._address("128.0/18")

    @property
    def first_service(self) -> str:
        """The API server's own service."""
        return self._address("128.1")


@dataclass(frozen=True)
class ClusterFiles:
    """All files of one cluster, below `home`."""

    home: Path
    network: Network
    tokens: dict[str, str] = field(default_factory=lambda: {name: secrets.token_hex(24) for name in _USERS}, repr=False)

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.home / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """The control group that holds all pods."""
        return f"/{self.network.name}"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of one user."""
        return self.home / f"{user}.kubeconfig"

    def write(self) -> None:
        """Write them all."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._certificates()
        rows = [f'{self.tokens[key]},{name},{key},"{group}"' for key, (name, group) in _USERS.items()]
        self._text("tokens.csv", "\n".join(rows) + "\n")
        for user in _USERS:
            self._json(f"{user}.kubeconfig", self._kubeconfig(user))
        self._text("containerd.toml", self._containerd())
        self._json("cni/10-bridge.conflist", self._cni())
        self._json("kubelet.json", self._kubelet())
        self._json("proxy.json", self._proxy())
        self._text("resolv.conf", f"nameserver {self.network.host}\n")

    def _text(self, name: str, text: str) -> None:
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def _json(self, name: str, content: object) -> None:
        self._text(name, json.dumps(content, indent=1))

    def _certificates(self) -> None:
        names = f"IP:{self.network.node},IP:{self.network.first_service},IP:127.0.0.1,DNS:localhost,DNS:kubernetes"
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        authority = [*new_key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=slipway-test", "-days", "30"]
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
        request = [*new_key, "-keyout", "api.key", "-out", "api.csr", "-subj", "/CN=kube-apiserver"]
        front = [*new_key, "-keyout", "front.key", "-out", "front.csr", "-subj", f"/CN={FRONT_PROXY}"]
        self._text("api.ext", f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
        self._text("front.ext", "extendedKeyUsage=clientAuth\n")
        sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"]
        for command in (
            ["req", "-x509", *authority, *usage],
            ["req", *request],
            ["req", *front],
            ["x509", "-req", "-in", "api.csr", "-out", "api.crt", "-extfile", "api.ext", *sign],
            ["x509", "-req", "-in", "front.csr", "-out", "front.crt", "-extfile", "front.ext", *sign],
            ["genrsa", "-out", "accounts.key", "2048"],
        ):
            subprocess.run(["openssl", *command], cwd=self.home, check=True, capture_output=True, timeout=60)

    def _kubeconfig(self, user: str) -> object:
        server = {"server": f"https://{self.network.node}:{API_PORT}", "certificate-authority-data": self._authority()}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }

    def _authority(self) -> str:
        done = subprocess.run(["base64", "-w0", "ca.crt"], cwd=self.home, check=True, capture_output=True, timeout=10)
        return done.stdout.decode()

    def _containerd(self) -> str:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""version = 2
root = "{self.home}/containerd"
state = "{self.home}/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{self.socket}"
[{cri}]
restrict_oom_score_adj = true
sandbox_image = "{PAUSE_IMAGE}"
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
[{cri}.containerd]
snapshotter = "overlayfs"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{self.home}/cni"
[{cri}.registry]
config_path = "{self.home}/registries"
"""

    def _cni(self) -> object:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": self.network.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.home / "addresses"),
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": "slipway", "plugins": [bridge]}

    def metrics_api(self) -> list[object]:
        """The objects that put metrics-server into the cluster's API."""
        return self.served_by_node("metrics.k8s.io", "metrics-server", METRICS_PORT)

    def served_by_node(self, group: str, service: str, number: int) -> list[object]:
        """The objects that put a server of the node, at a port of its address, into the cluster's API."""
        name, port = {"name": service, "namespace": "kube-system"}, {"name": "https", "port": number}
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": {"ports": [port]}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**name, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [port],
                "endpoints": [{"addresses": [self.network.node], "conditions": {"ready": True}}],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"v1beta1.{group}"},
                "spec": {
                    "group": group,
                    "version": "v1beta1",
                    "service": {**name, "port": number},
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        ]

    def _kubelet(self) -> object:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.network.node,
            # The node's network namespace belongs to the test alone.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "oomScoreAdj": 0,
            "podLogsDir": str(self.home / "pod-logs"),
            "registryPullQPS": 0,
            "resolvConf": str(self.home / "resolv.conf"),
            "volumePluginDir": str(self.home / "volume-plugins"),
        }

    def _proxy(self) -> object:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": self.network.pods,
            "clientConnection": {"kubeconfig": str(self.kubeconfig("proxy"))},
            "hostnameOverride": NODE,
            # Limits of the whole machine, which the namespace may not change.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "oomScoreAdj": 0,
        }
