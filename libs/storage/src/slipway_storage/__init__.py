"""ObjectStore protocol and its providers: s3, local, memory; URIs, key layout, multipart, checksums."""

from slipway_storage.config import LocalStoreConfig, MemoryStoreConfig, S3StoreConfig, StoreConfig
from slipway_storage.local.app import local_store_app
from slipway_storage.local.store import LocalStore
from slipway_storage.memory import MemoryStore
from slipway_storage.opening import open_store
from slipway_storage.s3.store import S3Store
from slipway_storage.store import (
    MAX_SIGNED_LIFETIME,
    Audience,
    MultipartUpload,
    ObjectInfo,
    ObjectStore,
    OpenUpload,
    SignedPut,
    UploadedPart,
)

__all__ = [
    "MAX_SIGNED_LIFETIME",
    "Audience",
    "LocalStore",
    "LocalStoreConfig",
    "MemoryStore",
    "MemoryStoreConfig",
    "MultipartUpload",
    "ObjectInfo",
    "ObjectStore",
    "OpenUpload",
    "S3Store",
    "S3StoreConfig",
    "SignedPut",
    "StoreConfig",
    "UploadedPart",
    "local_store_app",
    "open_store",
]
