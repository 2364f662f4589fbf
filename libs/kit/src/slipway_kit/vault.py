"""Envelope encryption: each secret has a key of its own, which is encrypted under a key of the installation."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from slipway_kit.errors import SlipwayError
from slipway_kit.key_ring import KEY_BYTES, KEY_ID_LENGTH, Key, KeyRing

_NONCE_BYTES = 12
_WRAPPED_BYTES = KEY_BYTES + 16
_VERSION = b"\x01"
HEADER_BYTES = len(_VERSION) + KEY_ID_LENGTH
_WRAPPED_END = HEADER_BYTES + _NONCE_BYTES + _WRAPPED_BYTES


class VaultError(SlipwayError):
    """A secret cannot be read: another key encrypted it, or it was moved or changed."""

    code = "secret_unreadable"


class Vault:
    """Encrypts with AES-256-GCM. `aad` says where a secret belongs, so a copy elsewhere cannot be read.

    An envelope is: version, key id, nonce and wrapped data key, nonce and ciphertext.
    """

    def __init__(self, keys: KeyRing) -> None:
        self.keys = keys

    def encrypt(self, plaintext: str, aad: tuple[str, ...]) -> bytes:
        """The envelope of `plaintext`, under the current key."""
        data_key, nonce = os.urandom(KEY_BYTES), os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(data_key).encrypt(nonce, plaintext.encode(), _bound(aad))
        return _wrap(self.keys.current(), data_key, aad) + sealed

    def decrypt(self, envelope: bytes, aad: tuple[str, ...]) -> str:
        """The plaintext. Raises `VaultError` for a key that is not here, another place, or changed bytes."""
        data_key = self._data_key(envelope, aad)
        nonce_end = _WRAPPED_END + _NONCE_BYTES
        try:
            plaintext = AESGCM(data_key).decrypt(envelope[_WRAPPED_END:nonce_end], envelope[nonce_end:], _bound(aad))
        except (InvalidTag, ValueError) as error:
            raise _damaged() from error
        return plaintext.decode()

    def rewrap(self, envelope: bytes, aad: tuple[str, ...]) -> bytes:
        """The same secret under the current key; the secret itself is not decrypted. Raises `VaultError`."""
        return _wrap(self.keys.current(), self._data_key(envelope, aad), aad) + envelope[_WRAPPED_END:]

    def _data_key(self, envelope: bytes, aad: tuple[str, ...]) -> bytes:
        header = envelope[:HEADER_BYTES]
        key_id = header[len(_VERSION) :].decode(errors="replace")
        key = self.keys.find(key_id) if header.startswith(_VERSION) else None
        if key is None:
            raise VaultError(
                f"A secret was encrypted with key {key_id!r}, which no key file of this installation holds. "
                "Give the service the key file that belongs to this database."
            )
        nonce_end = HEADER_BYTES + _NONCE_BYTES
        try:
            return key.cipher.decrypt(
                envelope[HEADER_BYTES:nonce_end], envelope[nonce_end:_WRAPPED_END], header + _bound(aad)
            )
        except (InvalidTag, ValueError) as error:
            raise _damaged() from error


def _wrap(key: Key, data_key: bytes, aad: tuple[str, ...]) -> bytes:
    header, nonce = _VERSION + key.id.encode(), os.urandom(_NONCE_BYTES)
    return header + nonce + key.cipher.encrypt(nonce, data_key, header + _bound(aad))


def _damaged() -> VaultError:
    return VaultError("A secret cannot be decrypted: its row was changed or moved.")


def _bound(aad: tuple[str, ...]) -> bytes:
    """The place as bytes; lengths keep ("a", "bc") and ("ab", "c") apart."""
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in aad)
