"""Envelope encryption: each secret has a key of its own, which is encrypted under the installation's key."""

import os
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from slipway_kit.errors import SlipwayError

KEY_BYTES = 32
_NONCE_BYTES = 12
_WRAPPED_BYTES = KEY_BYTES + 16
_KEY_ID_LENGTH = 8
_VERSION = b"\x01"


class VaultError(SlipwayError):
    """A secret cannot be read: another key encrypted it, or it was moved or changed."""

    code = "secret_unreadable"


class Vault:
    """Encrypts with AES-256-GCM. `aad` says where a secret belongs, so a copy elsewhere cannot be read.

    An envelope is: version, key id, nonce and wrapped data key, nonce and ciphertext.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"The secret key must be {KEY_BYTES} bytes long, not {len(key)}.")
        self._key = AESGCM(key)
        self.key_id = sha256(key).hexdigest()[:_KEY_ID_LENGTH]

    def encrypt(self, plaintext: str, aad: tuple[str, ...]) -> bytes:
        """The envelope of `plaintext`."""
        bound = _bound(aad)
        data_key, wrap_nonce, nonce = os.urandom(KEY_BYTES), os.urandom(_NONCE_BYTES), os.urandom(_NONCE_BYTES)
        header = _VERSION + self.key_id.encode()
        wrapped = self._key.encrypt(wrap_nonce, data_key, header + bound)
        return header + wrap_nonce + wrapped + nonce + AESGCM(data_key).encrypt(nonce, plaintext.encode(), bound)

    def decrypt(self, envelope: bytes, aad: tuple[str, ...]) -> str:
        """The plaintext. Raises `VaultError` for another key, another place, or changed bytes."""
        start = len(_VERSION) + _KEY_ID_LENGTH
        header, rest = envelope[:start], envelope[start:]
        key_id = header[len(_VERSION) :].decode(errors="replace")
        if not header.startswith(_VERSION) or key_id != self.key_id:
            raise VaultError(
                f"A secret was encrypted with key {key_id}, this installation has {self.key_id}. "
                "Start the gateway with the key file that belongs to this database."
            )
        wrapped_end = _NONCE_BYTES + _WRAPPED_BYTES
        bound = _bound(aad)
        try:
            data_key = self._key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:wrapped_end], header + bound)
            nonce = rest[wrapped_end : wrapped_end + _NONCE_BYTES]
            return AESGCM(data_key).decrypt(nonce, rest[wrapped_end + _NONCE_BYTES :], bound).decode()
        except (InvalidTag, ValueError) as error:
            raise VaultError("A secret cannot be decrypted: its row was changed or moved.") from error


def _bound(aad: tuple[str, ...]) -> bytes:
    """The place as bytes; lengths keep ("a", "bc") and ("ab", "c") apart."""
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in aad)
