"""Password hashes: argon2id, made in a thread because one takes about 50 ms."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from slipway_kit.tasks import run_blocking

UNUSABLE = "$argon2id$v=19$m=65536,t=3,p=4$c2xpcHdheS1zbGlwd2F5$3nmCFHiDSZTQ+3mSx5vvKmmhvkcLTHsSUfGJyHsmGOQ"
"""Verified when the user does not exist, so that the answer takes as long as for one who does."""


async def hash_password(password: str) -> str:
    """The encoded hash, with its parameters and salt."""
    return await run_blocking(PasswordHasher().hash, password)


async def verify_password(encoded: str | None, password: str) -> bool:
    """Whether `password` is the one behind `encoded`; None matches nothing and takes as long."""

    def verify() -> bool:
        try:
            return PasswordHasher().verify(encoded or UNUSABLE, password)
        except (VerifyMismatchError, InvalidHashError):
            return False

    return await run_blocking(verify) and encoded is not None
