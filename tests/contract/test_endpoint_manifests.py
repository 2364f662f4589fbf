"""The objects of an endpoint are part of the contract with those who run the cluster: every change is seen in a review.

`SLIPWAY_UPDATE_SNAPSHOTS=1 pytest tests/contract/test_endpoint_manifests.py` writes them anew.
"""

import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from slipway_builder.targets.kubernetes.manifests import manifests
from slipway_kit.errors import Invalid
from slipway_schemas.inference.versions import Scale, SharedVolume
from tests.contract.manifests.variants import PLAIN, VARIANTS, settings

FOLDER = Path(__file__).parent / "manifests"
UPDATE = os.environ.get("SLIPWAY_UPDATE_SNAPSHOTS") == "1"


@pytest.mark.parametrize("name", VARIANTS)
def test_manifests_are_the_ones_in_the_snapshot(name: str) -> None:
    made = VARIANTS[name].manifests()
    file = FOLDER / f"{name}.yaml"
    if UPDATE:
        file.write_text(yaml.safe_dump_all(made, sort_keys=True, width=120))
    assert list(made) == list(yaml.safe_load_all(file.read_text()))


def test_names_and_labels_fit() -> None:
    for variant in VARIANTS.values():
        for manifest in variant.manifests():
            metadata = manifest["metadata"]
            # The names of pods are 17 characters longer, and host names end at 63.
            assert len(metadata["name"]) + (17 if manifest["kind"] == "Deployment" else 0) <= 63
            for value in metadata["labels"].values():
                assert len(value) <= 63
                assert value == "" or (value[0].isalnum() and value[-1].isalnum())


def test_equal_revisions_make_equal_objects_and_only_a_new_key_or_secret_marks_pods_anew() -> None:
    def mark(secret: str, key: bytes) -> str:
        revision = replace(PLAIN, secret_environment={"API_KEY": secret})
        made = {one["kind"]: one for one in manifests(revision, settings(), "acme", key)}
        return str(made["Deployment"]["spec"]["template"]["metadata"]["annotations"]["slipway/secrets"])

    assert mark("one", b"k") == mark("one", b"k")
    assert len({mark("one", b"k"), mark("two", b"k"), mark("one", b"other")}) == 3


def test_no_secret_is_in_an_object_but_the_secrets() -> None:
    for variant in VARIANTS.values():
        for manifest in variant.manifests():
            if manifest["kind"] != "Secret":
                assert "s3cret" not in str(manifest)
                assert "pull me" not in str(manifest)


@pytest.mark.parametrize(
    "scale", [Scale(replicas=21), Scale(replicas=1, replicas_max=21), Scale(replicas=0, replicas_max=21)]
)
def test_more_replicas_than_the_target_allows_are_refused(scale: Scale) -> None:
    with pytest.raises(Invalid, match="up to 21 replicas, and this target allows 20"):
        manifests(replace(PLAIN, scale=scale), settings(), "acme", b"")


def test_two_volumes_at_one_path_are_refused() -> None:
    shared = tuple(SharedVolume(claim=claim, mount_path=path) for claim, path in (("a", "/data"), ("b", "/data/")))
    spec = PLAIN.spec.model_copy(update={"shared_volumes": shared})
    with pytest.raises(Invalid, match="mounted at /data"):
        manifests(replace(PLAIN, spec=spec), settings(), "acme", b"")


@pytest.mark.parametrize(
    ("allowed", "root"),
    [("/acme", True), ("/acme/digits/reader", True), ("/acme/dig", False), ("/", True), ("/b", False)],
)
def test_root_is_allowed_by_whole_names_of_a_path(allowed: str, root: bool) -> None:
    made = {one["kind"]: one for one in manifests(PLAIN, settings(root_allowed=[allowed]), "acme", b"")}
    pod = made["Deployment"]["spec"]["template"]["spec"]
    assert ("runAsNonRoot" not in pod["securityContext"]) is root
    assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_every_endpoint_has_objects_of_its_own() -> None:
    one, other = (
        {(made["kind"], made["metadata"]["name"]) for made in manifests(revision, settings(), "acme", b"")}
        for revision in (PLAIN, replace(PLAIN, endpoint_id=uuid4()))
    )
    assert not one & other
