"""Bytes between files and stores by signed URLs only: what a worker uses, which has no credentials of a
store."""

from slipway_storage.transfer.download import Downloaded, download
from slipway_storage.transfer.tickets import MultipartTicket, PartUrl, PutTicket, UploadTicket
from slipway_storage.transfer.upload import Uploaded, upload

__all__ = [
    "Downloaded",
    "MultipartTicket",
    "PartUrl",
    "PutTicket",
    "UploadTicket",
    "Uploaded",
    "download",
    "upload",
]
