"""The account that `deploy/kubernetes/account.yaml` makes can do everything; what another one lacks is named."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_builder.targets.kubernetes.client import NotAllowed
from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_builder.targets.kubernetes.target import KubernetesTarget
from slipway_kit.clock import SystemClock
from slipway_kit.errors import Unavailable
from slipway_testing.conformance.target import OPTIONAL, SERVER, MakeRevision, Watch
from slipway_testing.kubernetes.fixtures import Kubectl
from tests.cluster.support import TargetSettings

pytestmark = pytest.mark.kubernetes

ACCOUNT = Path("deploy/kubernetes/account.yaml")


def objects(namespace: str) -> dict[str, dict[str, Any]]:
    """The objects of the file, in another namespace."""
    text = ACCOUNT.read_text().replace("slipway-endpoints", namespace)
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


class Account:
    """An account with some rights in the test's namespace."""

    def __init__(self, kubectl: Kubectl, namespace: str, known: KubernetesTargetSettings) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._known = known
        self.targets: list[KubernetesTarget] = []

    def target(self, rules: list[dict[str, Any]]) -> KubernetesTarget:
        """A target that uses the account with these rights."""
        made = objects(self._namespace)
        made["Role"]["rules"] = rules
        self._kubectl.apply(
            *(made[kind] for kind in ("ServiceAccount", "Role", "RoleBinding")), namespace=self._namespace
        )
        token = self._kubectl("create", "token", "slipway", "-n", self._namespace).strip()
        return self.target_of(token)

    def target_of(self, token: str) -> KubernetesTarget:
        """A target that uses this token."""
        assert self._known.kubeconfig is not None
        content = yaml.safe_load(self._known.kubeconfig.get_secret_value())
        content["users"][0]["user"] = {"token": token}
        given = {**self._known.model_dump(), "kubeconfig": json.dumps(content)}
        settings = KubernetesTargetSettings.model_validate(given)
        self.targets.append(KubernetesTarget(settings, "permissions", b"", SystemClock()))
        return self.targets[-1]


@pytest.fixture
async def account(
    kubernetes_cluster: Kubectl, namespace: str, target_settings: TargetSettings
) -> AsyncIterator[Account]:
    account = Account(kubernetes_cluster, namespace, target_settings())
    yield account
    for target in account.targets:
        await target.aclose()


async def test_the_shipped_account_is_enough(account: Account, make_revision: MakeRevision, namespace: str) -> None:
    target = account.target(objects(namespace)["Role"]["rules"])
    checks = await target.check()
    assert [check for check in checks if not check.ok and OPTIONAL not in check.name] == []
    revision = make_revision(SERVER)
    watch = Watch(target, revision.endpoint_id)
    await target.apply(revision)
    await watch.until_serving(1, 1, 30)
    await target.remove(revision.endpoint_id)
    await watch.until_gone(40)


async def test_each_missing_permission_is_named_with_the_rule_that_grants_it(
    account: Account, make_revision: MakeRevision, namespace: str
) -> None:
    rules = objects(namespace)["Role"]["rules"]
    fewer = [rule for rule in rules if "secrets" not in rule["resources"] and "namespaces" not in rule["resources"]]
    for rule in fewer:
        if "deployments" in rule["resources"]:
            rule["verbs"] = ["get", "list", "create"]
    target = account.target(fewer)
    missing = {
        check.name: check.message for check in await target.check() if not check.ok and OPTIONAL not in check.name
    }
    assert missing.keys() == {"namespace", "permission deployments", "permission secrets"}
    assert missing["permission deployments"] == (
        f"The account may not patch, delete deployments in the namespace {namespace}. Add the rule: "
        '{apiGroups: ["apps"], resources: ["deployments"], verbs: [patch, delete]}'
    )
    assert 'Add the rule: {apiGroups: [""], resources: ["namespaces"], verbs: [get]}' in missing["namespace"]
    with pytest.raises(NotAllowed, match="cannot patch resource"):
        await target.apply(make_revision(SERVER))
    named = [yaml.safe_load(words.partition("Add the rule: ")[2]) for words in missing.values()]
    target = account.target([*fewer, *named])
    assert [check for check in await target.check() if not check.ok and OPTIONAL not in check.name] == []


async def test_credentials_that_are_not_accepted_are_said_so(account: Account) -> None:
    target = account.target_of("nonsense")
    (check,) = await target.check()
    assert "does not accept the target's credentials" in check.message
    with pytest.raises(Unavailable, match="does not accept the target's credentials"):
        await target.observe()
