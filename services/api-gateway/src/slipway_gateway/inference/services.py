"""The services of inference."""

from dataclasses import dataclass
from typing import Self

from slipway_db import Database
from slipway_gateway.data.services import DataServices
from slipway_gateway.executions.drafts import Snapshots
from slipway_gateway.inference.deployments import DeploymentService
from slipway_gateway.inference.drafts import VersionDrafts
from slipway_gateway.inference.keys import KeyService
from slipway_gateway.inference.materials import InferenceMaterialsService
from slipway_gateway.inference.targets import TargetService
from slipway_gateway.inference.trial import TrialService
from slipway_gateway.inference.versions import VersionService
from slipway_gateway.settings import GatewaySettings
from slipway_kit.clock import Clock
from slipway_kit.http import Neighbour
from slipway_kit.vault import Vault


@dataclass(frozen=True)
class InferenceServices:
    """They open units of work of their own, because they also talk to the builder."""

    deployments: DeploymentService
    versions: VersionService
    keys: KeyService
    targets: TargetService
    trials: TrialService
    materials: InferenceMaterialsService

    @classmethod
    def build(
        cls,
        db: Database,
        builder: Neighbour,
        logs: Neighbour,
        *,
        settings: GatewaySettings,
        vault: Vault,
        snapshots: Snapshots,
        data: DataServices,
        clock: Clock,
    ) -> Self:
        """All of them."""
        drafts = VersionDrafts(
            db,
            vault,
            snapshots,
            public_url=settings.public_url,
            max_file_bytes=settings.inference.max_file_bytes,
        )
        deployments = DeploymentService(db, builder, vault, snapshots)
        keys = KeyService(db, builder, deployments, clock)
        return cls(
            deployments=deployments,
            versions=VersionService(db, builder, logs, drafts, snapshots, clock),
            keys=keys,
            targets=TargetService(db, builder),
            trials=TrialService(keys, clock),
            materials=InferenceMaterialsService(db, vault, data.stores, data.datums, snapshots),
        )
