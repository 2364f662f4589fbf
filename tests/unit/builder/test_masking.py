"""Secrets in the settings of a target are masked, and masks that come back stay the secrets that they were."""

import pytest

from slipway_builder.targets.masking import masked, unmasked
from slipway_kit.errors import Invalid

KEPT = {
    "cluster": {"namespace": "a", "kubeconfig": "text", "pull": {"registry": "r", "username": "u", "password": "one"}},
    "images": {"sources": [{"host": "x", "password": "two"}, {"host": "y", "password": "three"}]},
}


def test_secrets_are_masked_and_nothing_else_is() -> None:
    shown = masked(KEPT)
    assert shown["cluster"] == {
        "namespace": "a",
        "kubeconfig": "********",
        "pull": {"registry": "r", "username": "u", "password": "********"},
    }
    assert shown["images"] == {"sources": [{"host": one, "password": "********"} for one in "xy"]}
    assert masked({"cluster": {"kubeconfig": None}}) == {"cluster": {"kubeconfig": None}}


def test_masks_that_come_back_are_the_secrets_that_they_were() -> None:
    assert unmasked(masked(KEPT), KEPT) == KEPT
    assert unmasked({"cluster": {"namespace": "b", "kubeconfig": "new"}}, KEPT) == {
        "cluster": {"namespace": "b", "kubeconfig": "new"}
    }
    assert unmasked({"images": {"sources": [{"host": "y", "password": "********"}]}}, KEPT) == {
        "images": {"sources": [{"host": "y", "password": "three"}]}
    }


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"images": {"registry": {"password": "********"}}}, "settings.images.registry.password"),
        ({"images": {"sources": [{"host": "z", "password": "********"}]}}, "settings.images.sources.0.password"),
    ],
)
def test_a_mask_of_nothing_is_refused(settings: dict[str, object], place: str) -> None:
    with pytest.raises(Invalid, match=place):
        unmasked(settings, KEPT)
