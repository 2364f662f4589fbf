"""The memory store passes the conformance suite and says that it signs nothing."""

from datetime import timedelta

import pytest

from slipway_kit.errors import Unavailable
from slipway_storage import MemoryStoreConfig, ObjectStore, open_store
from slipway_testing.conformance.object_store import ObjectStoreConformance


@pytest.fixture
def store() -> ObjectStore:
    return open_store(MemoryStoreConfig())


class TestMemoryStore(ObjectStoreConformance):
    pass


async def test_it_signs_nothing(store: ObjectStore) -> None:
    with pytest.raises(Unavailable, match="signs no URLs"):
        await store.sign_get("a", expires=timedelta(minutes=1))
