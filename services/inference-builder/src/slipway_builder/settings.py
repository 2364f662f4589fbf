"""Settings of inference-builder: `SLIPWAY_BUILDER__…`."""

from slipway_kit.settings import KeySettings, ServiceSettings, service_config


class BuilderSettings(ServiceSettings):
    """Everything that inference-builder is told."""

    model_config = service_config("builder")

    keys: KeySettings
