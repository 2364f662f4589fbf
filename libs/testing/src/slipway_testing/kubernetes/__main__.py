"""The test cluster by hand: `python -m slipway_testing.kubernetes up | down`."""

import sys
import time
from pathlib import Path

from slipway_testing.kubernetes.cluster import Cluster, started_clusters
from slipway_testing.kubernetes.programs import KUBECONFIG_VARIABLE, kubernetes_problem, programs


def main(words: list[str]) -> int:
    """`up` starts a cluster and says how to use it; `down` ends all that `up` started."""
    root = Path.cwd()
    binaries = programs(root)
    if words == ["up"]:
        problem = kubernetes_problem(root)
        if problem or binaries is None:
            print(problem, file=sys.stderr)
            return 1
        begun = time.monotonic()
        cluster = Cluster.claim(binaries)
        cluster.start()
        cluster.disown()
        print(f"# ready after {time.monotonic() - begun:.1f} s; kubectl: {cluster.kubectl}")
        print(f"export {KUBECONFIG_VARIABLE}={cluster.kubeconfig} KUBECONFIG={cluster.kubeconfig}")
        return 0
    if words == ["down"]:
        for cluster in started_clusters(binaries or root):
            if not (cluster.home / "owner.json").exists():
                cluster.stop()
                print(f"ended cluster {cluster.network.number}")
        return 0
    print("python -m slipway_testing.kubernetes up | down", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
