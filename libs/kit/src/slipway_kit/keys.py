"""Ed25519 key files: made once per service, PEM, the private one readable by its owner only."""

import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLIC_SUFFIX = ".pub.pem"


MIN_PEPPER_LENGTH = 32


class KeyFileError(Exception):
    """A key file is missing or does not hold an Ed25519 key; the message names the file."""


def generate_keypair(private_file: Path, public_file: Path) -> None:
    """Write a new key pair: `private_file` with mode 0600, `public_file` with 0644. Overwrites neither."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new(private_file, private, 0o600)
    _write_new(public_file, public, 0o644)


def load_private(file: Path) -> Ed25519PrivateKey:
    """Read a private key. Raises `KeyFileError`."""
    try:
        key = serialization.load_pem_private_key(_read(file), password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{file} does not hold a readable private key in PEM form.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{file} holds a key of another kind; an Ed25519 key is needed.")
    return key


def load_public(file: Path) -> Ed25519PublicKey:
    """Read a public key. Raises `KeyFileError`."""
    try:
        key = serialization.load_pem_public_key(_read(file))
    except ValueError as error:
        raise KeyFileError(f"{file} does not hold a readable public key in PEM form.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{file} holds a key of another kind; an Ed25519 key is needed.")
    return key


def load_trusted(folder: Path) -> Mapping[str, Ed25519PublicKey]:
    """Read every `<service>.pub.pem` of a folder; the file name says whose key it is."""
    return {
        file.name.removesuffix(PUBLIC_SUFFIX): load_public(file) for file in sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))
    }


def read_pepper(file: Path) -> str:
    """Return the key of keyed token hashes (`auth.token_hash`). Raises `KeyFileError` when it is missing or short."""
    pepper = _read(file).decode("utf-8", "replace").strip()
    if len(pepper) < MIN_PEPPER_LENGTH:
        raise KeyFileError(f"{file} must hold at least {MIN_PEPPER_LENGTH} characters of random text.")
    return pepper


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read ({error.strerror}).") from error


def _write_new(file: Path, content: bytes, mode: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
