"""The steps of build and rollout at which a builder is struck, as calls that go through its wire."""

import os
import random
import secrets
from dataclasses import dataclass

from tests.chaos.inference.tripwire import AFTER, BEFORE, WITHIN


@dataclass(frozen=True)
class Point:
    """A moment of a call."""

    step: str
    moment: str
    words: tuple[str, ...]
    count: int = 1
    during: str = "create"
    """`create`, `move` or `delete`: what is asked of the builder meanwhile."""


GATEWAY = (
    Point("code is asked for", BEFORE, ("gateway POST", "materials")),
    Point("code is fetched", WITHIN, ("gateway GET", "/code/")),
    Point("a file is fetched", WITHIN, ("gateway GET", "/files/")),
    Point("a file was fetched", AFTER, ("gateway GET", "/files/")),
)
ENGINE = (
    Point("a build container is made", AFTER, ("engine POST", "/containers/create", "slipway-build")),
    Point("files go into it", AFTER, ("engine PUT", "/archive")),
    Point("the image is kept", BEFORE, ("engine POST", "/commit")),
    Point("the image was kept, before the row", AFTER, ("engine POST", "/commit")),
    Point("the build container goes", BEFORE, ("engine DELETE", "/containers/")),
    Point("the endpoint's container is made", BEFORE, ("engine POST", "/containers/create", "slipway-endpoint")),
    Point("the endpoint's container was made", AFTER, ("engine POST", "/containers/create", "slipway-endpoint")),
    Point("it starts", BEFORE, ("engine POST", "/start"), count=1),
    Point("it was started", AFTER, ("engine POST", "/start"), count=1),
    Point("it is observed", BEFORE, ("engine GET", "/logs"), count=2),
    Point("a container is ended", BEFORE, ("engine POST", "/stop"), during="delete"),
    Point("a container was ended", AFTER, ("engine POST", "/stop"), during="delete"),
    Point("a container was deleted", AFTER, ("engine DELETE", "/containers/"), during="delete"),
)
REGISTRY = (
    Point("the base is asked for", AFTER, ("registry HEAD", "/manifests/")),
    Point("layers are mounted", AFTER, ("registry POST", "mount=")),
    Point("a blob is begun", AFTER, ("registry POST", "/blobs/uploads/"), count=3),
    Point("a blob is sent", BEFORE, ("registry PUT", "/blobs/uploads/")),
    Point("blobs were sent", AFTER, ("registry PUT", "/blobs/uploads/"), count=3),
    Point("the list of contents is attached", AFTER, ("registry PUT", "/manifests/sha256")),
    Point("the manifest is pushed", BEFORE, ("registry PUT", "/manifests/v-")),
    Point("after the push, before the row", AFTER, ("registry PUT", "/manifests/v-")),
)
CLUSTER = (
    Point("apply is begun", BEFORE, ("api PATCH", "/services/")),
    Point("objects are half applied", AFTER, ("api PATCH", "/services/")),
    Point("objects are half applied, network", AFTER, ("api PATCH", "/networkpolicies/")),
    Point("objects are nearly applied", BEFORE, ("api PATCH", "/deployments/")),
    Point("all objects are applied", AFTER, ("api PATCH", "/deployments/")),
    Point("it is observed", AFTER, ("api GET", "/pods?"), count=3),
    Point("objects are half deleted", AFTER, ("api DELETE", "/networkpolicies/"), during="delete"),
    Point("the service was deleted", AFTER, ("api DELETE", "/services/"), during="delete"),
    Point("the deployment is deleted", BEFORE, ("api DELETE", "/deployments/"), during="delete"),
    Point("the deployment was deleted", AFTER, ("api DELETE", "/deployments/"), during="delete"),
)
_READY = "SELECT 1 FROM images WHERE status = 'ready' AND id = :id"
_SERVING = "SELECT 1 FROM endpoints WHERE serving AND image_id = :id"
_AVAILABLE = "SELECT 1 FROM endpoints WHERE status = 'AVAILABLE' AND image_id = :id"
ROWS = (
    Point("the image is ready, nothing is applied", "row", (_READY,)),
    Point("the lease was renewed", "renewal", ()),
    Point("the rollout is under way", "row", (_SERVING,)),
    Point("it has just become ready", "row", (_AVAILABLE,)),
    Point("the alias has moved, routers are being told", "move", (), during="move"),
    Point("a version was deleted", "now", (), during="delete"),
    Point("at random", "random", ()),
    Point("at random while deleting", "random", (), during="delete"),
)


def chosen(points: tuple[Point, ...], few: int, ci: int, full: int) -> tuple[list[Point], random.Random]:
    """The points of this run in an order of their own, and the seed's chance; `SLIPWAY_CHAOS_SEED` repeats it,
    `SLIPWAY_CHAOS_BUILDER_KILLS` says how many."""
    seed = int(os.environ.get("SLIPWAY_CHAOS_SEED") or secrets.randbelow(10**9))
    scale = os.environ.get("SLIPWAY_CHAOS", "")
    count = {"": few, "ci": ci, "full": full}[scale]
    count = int(os.environ.get("SLIPWAY_CHAOS_BUILDER_KILLS", count))
    chance = random.Random(seed)
    order: list[Point] = []
    while len(order) < count:
        some = list(points)
        chance.shuffle(some)
        order += some
    print(f"\nSLIPWAY_CHAOS_SEED={seed}: {count} kills")
    return order[:count], chance
