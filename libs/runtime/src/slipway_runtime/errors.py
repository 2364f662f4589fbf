"""What can go wrong between the agent and a container runtime, as types with stable codes."""


class ContainerError(Exception):
    """Base of the errors of container runtimes. `code` is the reason that an execution ends with."""

    code = "internal"


class RuntimeUnavailable(ContainerError):
    """The engine or a program that the runtime needs does not answer on this machine."""

    code = "runtime_unavailable"


class ImageMissing(ContainerError):
    """The registry answered that there is no such image."""

    code = "image_missing"


class ImageDenied(ContainerError):
    """The registry refused the image with the credentials given."""

    code = "image_denied"


class RegistryUnreachable(ContainerError):
    """The registry did not answer. Trying again later may help."""

    code = "registry_unreachable"
