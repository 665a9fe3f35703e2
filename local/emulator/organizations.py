"""Organizations: one organization of several accounts, as seen from each of them.

ministack gives every account that asks an organization of its own and knows no invitations.
AWS pages: "Inviting an AWS account to join your organization", "Delegated administrator for AWS Organizations".
"""

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core.responses import (
    AccountScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    request_scope,
)
from ministack.services import organizations

from .pinned import replace, require

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Response]]

EVERY_MEMBER = frozenset({"DescribeOrganization"})
DELEGATED = frozenset(
    "DescribeAccount DescribeOrganizationalUnit ListAccounts ListAccountsForParent ListDelegatedAdministrators "
    "ListOrganizationalUnitsForParent ListParents ListRoots ListTagsForResource".split()
)
"""What a delegated administrator may ask of the organization, and other members may not."""

PAGE = 20
"""Accounts in a page of a list, at most."""

_invitations: dict[str, tuple[str, str]] = {}
"""Handshake id -> the inviting and the invited account."""
_delegations = AccountScopedDict()
"""In the management account: (account, service principal) -> when it was registered."""


def mend() -> None:
    """Let accounts belong to an organization of another."""
    replace(organizations, "handle_request", "method path headers body query_params", _handle_request)
    require(organizations, "_accounts _ensure_org _orgs _public_account _roots")


def management_of(account: str) -> str | None:
    """The management account of the organization that the account is an active member of."""
    for (management, member), entry in list(organizations._accounts._data.items()):
        if member == account and entry.get("Status") == "ACTIVE":
            return management
    return None


def id_of(account_id: str) -> str | None:
    """The id of the organization that the account is an active member of."""
    management = management_of(account_id)
    return organizations._orgs.get_scoped(management, None, "self")["Id"] if management else None


def _handle_request(original: Handler) -> Handler:
    async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Response:
        action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        parameters = json.loads(body or b"{}")
        account = get_account_id()
        management = management_of(account)
        if action in ("CreateOrganization", "AcceptHandshake"):
            return _create(management) if action == "CreateOrganization" else _accept(parameters)
        if management is None:
            message = "Your account is not a member of an organization."
            return error_response_json("AWSOrganizationsNotInUseException", message, 400)
        if account != management and not _may_ask(account, management, action):
            message = "You don't have permissions to access this resource."
            return error_response_json("AccessDeniedException", message, 400)
        with request_scope(management, get_region()):
            if own := _OWN.get(action):
                return own(parameters)
            return _page(await original(method, path, headers, body, query_params), parameters)

    return handle_request


def _page(response: Response, parameters: dict[str, Any]) -> Response:
    """Lists of accounts come in pages of up to 20; ministack gives all at once."""
    answer = json.loads(response[2] or b"{}")
    if response[0] >= 400 or "Accounts" not in answer:
        return response
    start, most = int(parameters.get("NextToken") or 0), min(parameters.get("MaxResults") or PAGE, PAGE)
    everything = answer["Accounts"]
    more = {"NextToken": str(start + most)} if start + most < len(everything) else {}
    return json_response({"Accounts": everything[start : start + most], **more})


def _may_ask(account: str, management: str, action: str) -> bool:
    delegated = any(
        key[0] == account for owner, key in list(_delegations._data) if owner == management
    )
    return action in EVERY_MEMBER or (delegated and action in DELEGATED)


def _create(management: str | None) -> Response:
    if management is not None:
        message = "The AWS account is already a member of an organization."
        return error_response_json("AlreadyInOrganizationException", message, 400)
    organizations._ensure_org()
    return json_response({"Organization": dict(organizations._orgs["self"])})


def _invite(parameters: dict[str, Any]) -> Response:
    invited = parameters.get("Target", {}).get("Id", "")
    if management_of(invited):
        message = "The account is already a member of an organization."
        return error_response_json("DuplicateAccountException", message, 400)
    handshake = f"h-{uuid.uuid4().hex[:10]}"
    _invitations[handshake] = (get_account_id(), invited)
    return json_response({"Handshake": {"Id": handshake, "State": "OPEN", "Action": "INVITE"}})


def _accept(parameters: dict[str, Any]) -> Response:
    handshake = parameters.get("HandshakeId", "")
    management, invited = _invitations.get(handshake, ("", ""))
    if invited != get_account_id():
        return error_response_json("HandshakeNotFoundException", "We can't find a handshake with that id.", 400)
    del _invitations[handshake]
    with request_scope(management, get_region()):
        organization = organizations._orgs["self"]["Id"]
        organizations._accounts[invited] = {
            "Id": invited,
            "Arn": f"arn:aws:organizations::{management}:account/{organization}/{invited}",
            "Email": f"{invited}@example.com",
            "Name": invited,
            "Status": "ACTIVE",
            "JoinedMethod": "INVITED",
            "JoinedTimestamp": int(time.time()),
            "Path": "/",
            "_ParentId": next(iter(organizations._roots)),
        }
    return json_response({"Handshake": {"Id": handshake, "State": "ACCEPTED", "Action": "INVITE"}})


def _remove_account(parameters: dict[str, Any]) -> Response:
    account = parameters.get("AccountId", "")
    if account == get_account_id() or organizations._accounts.pop(account, None) is None:
        return error_response_json("AccountNotFoundException", f"Account {account} not found", 400)
    return json_response({})


def _register(parameters: dict[str, Any]) -> Response:
    account, service = parameters.get("AccountId", ""), parameters.get("ServicePrincipal", "")
    if account not in organizations._accounts:
        return error_response_json("AccountNotFoundException", f"Account {account} not found", 400)
    _delegations[account, service] = int(time.time())
    return json_response({})


def _deregister(parameters: dict[str, Any]) -> Response:
    _delegations.pop((parameters.get("AccountId", ""), parameters.get("ServicePrincipal", "")), None)
    return json_response({})


def _delegated_administrators(parameters: dict[str, Any]) -> Response:
    service = parameters.get("ServicePrincipal")
    found = {account: since for (account, of), since in _delegations.items() if service in (None, of)}
    return json_response(
        {
            "DelegatedAdministrators": [
                {**organizations._public_account(organizations._accounts[account]), "DelegationEnabledDate": since}
                for account, since in found.items()
                if account in organizations._accounts
            ]
        }
    )


_OWN: dict[str, Callable[[dict[str, Any]], Response]] = {
    "InviteAccountToOrganization": _invite,
    "RemoveAccountFromOrganization": _remove_account,
    "EnableAWSServiceAccess": lambda _: json_response({}),
    "RegisterDelegatedAdministrator": _register,
    "DeregisterDelegatedAdministrator": _deregister,
    "ListDelegatedAdministrators": _delegated_administrators,
}
