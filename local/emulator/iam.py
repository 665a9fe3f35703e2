"""IAM: what a role may do that a service takes, and what the policy of a resource allows it.

The local AWS lets every caller do everything. Where an event crosses from one account or Region to another, roles and
resource policies are what counts, and there they are evaluated, with ministack's own evaluator.
AWS pages: "Policy evaluation logic", "AWS global condition context keys".
"""

import json
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.iam_evaluator import EvalContext, evaluate, evaluate_resource_policy, parse_policy_document
from ministack.core.responses import get_region
from ministack.services import iam

from . import organizations
from .pinned import replace, require


def mend() -> None:
    """Let aws:PrincipalOrgID be the organization that the account is a member of; ministack knows only its master."""
    replace(iam_evaluator, "_principal_org_id", "account_id", lambda _: organizations.id_of)
    require(iam_evaluator, "_gather_role_policies _permissions_boundary _service_principal_matches")
    require(iam, "_roles")


def find_role(role_arn: str) -> dict[str, Any] | None:
    """ministack's entry of the role with this ARN, in whichever account it is."""
    parts = role_arn.split(":")
    if len(parts) != 6 or not parts[5].startswith("role/"):
        return None
    role = iam._roles.get_scoped(parts[4], None, parts[5].rsplit("/", 1)[-1])
    return role if role and role.get("Arn") == role_arn else None


def role_of_session(session_arn: str) -> str:
    """The ARN of the role, path and all, that a session arn:aws:sts::…:assumed-role/name/session is of."""
    account, name = session_arn.split(":")[4], session_arn.split("/")[1]
    role = iam._roles.get_scoped(account, None, name)
    return role["Arn"] if role else f"arn:aws:iam::{account}:role/{name}"


def role_refuses(role_arn: str, service: str, action: str, resource_arn: str, source_arn: str) -> str:
    """Why a service can't do this with the role, or an empty text: no such role, not trusted, not allowed."""
    role = find_role(role_arn)
    if role is None:
        return f"The role {role_arn} doesn't exist"
    account = role_arn.split(":")[4]
    context = _context(f"arn:aws:iam::{account}:role/service", account, "sts:AssumeRole", role_arn, source_arn)
    if not _trusts_service(role.get("AssumeRolePolicyDocument", "{}"), service, context):
        return f"The role {role_arn} doesn't trust {service}"
    policies = iam_evaluator._gather_role_policies(role["RoleName"], account)
    limits = iam_evaluator._permissions_boundary(iam._roles, role["RoleName"], account)
    context = _context(role_arn, account, action, resource_arn, source_arn)
    if evaluate(context, policies, *limits).decision != "Allow":
        return f"The role {role_arn} may not {action} on {resource_arn}"
    return ""


def resource_policy_decision(
    policy: Any, role_arn: str, action: str, resource_arn: str, source_arn: str, **keys: str
) -> str:
    """What the policy of a resource says of a role that calls it: Allow, Deny or ImplicitDeny."""
    context = _context(role_arn, role_arn.split(":")[4], action, resource_arn, source_arn)
    context.service_context.update(keys)
    return evaluate_resource_policy(policy or {}, context).decision


def _context(principal: str, account: str, action: str, resource_arn: str, source_arn: str) -> EvalContext:
    return EvalContext(
        principal_arn=principal,
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource_arn,
        region=get_region(),
        secure_transport=True,
        service_context={"aws:sourcearn": source_arn, "aws:sourceaccount": source_arn.split(":")[4]},
    )


def _trusts_service(document: str | dict[str, Any], service: str, context: EvalContext) -> bool:
    """Whether a trust policy names the service; ministack would let it in through any service's name."""
    policy = json.loads(document) if isinstance(document, str) else document
    statements = policy.get("Statement", [])
    named = [
        {**statement, "Resource": "*"}
        for statement in ([statements] if isinstance(statements, dict) else statements)
        if iam_evaluator._service_principal_matches(statement.get("Principal"), service)
    ]
    return evaluate(context, [parse_policy_document({"Statement": named})]).decision == "Allow"
