"""`get-token/` and `users/me/` of the compatible API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.identity.domain import TokenKind
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.urls import api_path
from slipway_kit.body import json_or_form

router = APIRouter(tags=["session"])


class GetToken(BaseModel):
    """A login with a password."""

    username: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1)


class TokenV0(BaseModel):
    """A new token; it is not shown again."""

    token: str


class UserV0(BaseModel):
    """The caller."""

    id: int
    username: str
    email: str
    is_superuser: bool
    url: str


@router.post("/get-token/", responses={403: {}}, openapi_extra=body_schema(GetToken))
async def get_token(
    request: Request, context: Context, body: Annotated[GetToken, Depends(json_or_form(GetToken))]
) -> TokenV0:
    """A token for a user name and a password."""
    address = request.client.host if request.client else ""
    _, token = await context.login.login(body.username, body.password, address=address, kind=TokenKind.API)
    return TokenV0(token=token.value)


@router.get("/users/me/")
async def me(user: CurrentUser) -> UserV0:
    """Who the token belongs to."""
    return UserV0(
        id=user.id,
        username=user.username,
        email=user.email,
        is_superuser=user.is_admin,
        url=api_path("users", user.id),
    )
