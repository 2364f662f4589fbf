"""The apps of all services, with who may call them and which values mean something to them."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from tests.api.platform.population import Estate
from tests.api.platform.services import Services

APPS = [
    ("gateway", "public"),
    ("gateway", "workers"),
    ("gateway", "internal"),
    ("scheduler", "workers"),
    ("scheduler", "internal"),
    ("logs", "public"),
    ("logs", "workers"),
    ("logs", "internal"),
    ("builder", "internal"),
]


@dataclass(frozen=True)
class Target:
    """One app and the one who calls it."""

    services: Services
    estate: Estate
    service: str
    app: str

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.services.url(self.service, self.app)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What it says of itself."""
        with httpx.Client(base_url=self.url) as client:
            found: dict[str, Any] = json.loads(client.get("/openapi.json").content)
            return found

    @property
    def headers(self) -> dict[str, str]:
        """The proof of a caller who may do everything that the app offers."""
        if self.app == "public":
            return {"Authorization": f"Token {self.estate.token}"}
        if self.app == "internal":
            caller = "builder" if self.service == "gateway" else "gateway"
            return {"Authorization": f"Bearer {self.services.service_token(caller, self.service)}"}
        token = self.estate.machine.worker_token if self.service == "scheduler" else self.estate.attempt.token
        return {"Authorization": f"Bearer {token}"}

    @property
    def known(self) -> dict[str, str]:
        """Values that exist, by the names of parameters and fields."""
        estate = self.estate
        return {
            **{name: value for name, value in estate.ids().items() if name not in ("name", "owner")},
            "attempt_id": estate.attempt.id,
            "environment_id": estate.machine.environment_id,
            "execution": estate.execution["id"],
            "project": estate.project["id"],
            "datum": estate.datum["id"],
            "commit": estate.commit,
            "step": "train",
            "environment": estate.machine.slug,
            "default_environment": estate.machine.slug,
            "output_execution": estate.execution["id"],
        }
