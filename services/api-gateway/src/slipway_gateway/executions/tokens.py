"""The token inside a container: it proves one execution, and nothing else may be done with it (contract 3.7)."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import ValidationError

from slipway_kit.errors import Unauthorized
from slipway_schemas.tokens import ExecutionClaims

SCHEME = "Execution-Token"
_ALGORITHM = "Ed25519"
_TYPE = "slipway-execution+jwt"


class ExecutionTokens:
    """Signs and checks execution tokens with the gateway's own key. A token ends with its attempt."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        pem = private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._key = OKPKey.import_key(pem)

    def sign(self, claims: ExecutionClaims) -> str:
        """The token that proves these claims."""
        header = {"alg": _ALGORITHM, "typ": _TYPE}
        return jwt.encode(header, claims.model_dump(mode="json"), self._key, algorithms=[_ALGORITHM])

    def verify(self, token: str) -> ExecutionClaims:
        """What the token proves. Raises `Unauthorized`. Whether its attempt still runs is the caller's check."""
        try:
            decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
            if decoded.header.get("typ") != _TYPE:
                raise Unauthorized("This token is not an execution token.")
            return ExecutionClaims.model_validate(decoded.claims)
        except (JoseError, ValidationError, ValueError) as error:
            raise Unauthorized("The execution token is not one that Slipway signed.") from error


def execution_token(request: Request) -> str:
    """The token of a request from a container. Raises `Unauthorized` when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    found = token.strip() if scheme.lower() == SCHEME.lower() else request.headers.get(SCHEME, "").strip()
    if not found:
        raise Unauthorized("Send the header of api.json: `Authorization: Execution-Token <token>`.")
    return found
