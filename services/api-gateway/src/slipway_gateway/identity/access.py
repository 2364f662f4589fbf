"""Whose things a user may see. Every query of the gateway is limited by this."""

from sqlalchemy import Select, select, union_all

from slipway_gateway.identity.tables import MembershipRow, UserRow


def owner_ids(user_id: int) -> Select[int]:
    """Ids of the accounts whose things this user may see and change: the user and the user's organizations.

    Administrators get no more: they can see what belongs to them.
    """
    own = select(UserRow.account_id.label("owner_id")).where(UserRow.account_id == user_id)
    shared = select(MembershipRow.organization_id.label("owner_id")).where(MembershipRow.user_id == user_id)
    both = union_all(own, shared).subquery("owner_ids")
    return select(both.c.owner_id)
