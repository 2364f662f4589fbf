"""What an endpoint can be in, as clients see it (contract 4.3), and what a target is."""

from enum import StrEnum


class TargetKind(StrEnum):
    """What serves the endpoints of a target."""

    KUBERNETES = "kubernetes"
    DOCKER = "docker"
    PROCESS = "process"


class EndpointStatus(StrEnum):
    """Status of one endpoint of a version. `BUILDING_IMAGE` is the value that clients know (contract 4.3)."""

    CREATED = "CREATED"
    BUILDING_IMAGE = "BUILDING_IMAGE"
    BUILD_FAILED = "BUILD_FAILED"
    DEPLOYING = "DEPLOYING"
    AVAILABLE = "AVAILABLE"
    DEGRADED = "DEGRADED"
    """Some replicas serve, others cannot."""
    UNAVAILABLE = "UNAVAILABLE"
    """No replica serves; the detail says why."""
    DISABLED = "DISABLED"


class ImageStatus(StrEnum):
    """How far the image of an endpoint is."""

    WAITING = "waiting"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Problem(StrEnum):
    """Why a replica does not serve, in the words of the platform."""

    IMAGE_PULL = "image_pull"
    CRASH_LOOP = "crash_loop"
    OUT_OF_MEMORY = "out_of_memory"
    UNSCHEDULABLE = "unschedulable"
    PROBE_FAILING = "probe_failing"
    NOT_WOKEN = "not_woken"
    """The endpoint is asleep, and who should wake it hears of no requests."""
    QUOTA_EXCEEDED = "quota_exceeded"
    TARGET_UNREACHABLE = "target_unreachable"
    REFUSED = "refused"
    """The target refused the object: a policy, a missing permission, a value it does not take."""
