"""STS: who may assume a role, and the role's session that a function calls with.

ministack lets everyone assume any role, existing or not, and gives functions the credentials of their account's root.
AWS pages: "AssumeRole", "The confused deputy problem", "Lambda execution role".
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core import iam_evaluator, lambda_runtime
from ministack.core.iam_evaluator import EvalContext, evaluate_trust_policy
from ministack.core.responses import get_region
from ministack.services import lambda_svc, sts

from . import iam
from .calls import read_request
from .pinned import replace, require

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Response]]


def mend() -> None:
    """Ask the role's trust policy, and let functions be their role."""
    replace(sts, "handle_request", "method path headers body query_params", _handle_request)
    replace(iam_evaluator, "_resolve_condition_key", "key ctx", _resolve_condition_key)
    for module in (lambda_runtime, lambda_svc):
        replace(module, "execution_credentials", "config", _execution_credentials)
    require(sts, "_caller_identity _error register_session")


def _handle_request(original: Handler) -> Handler:
    async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Response:
        call = read_request(method, path, headers, body, query_params)
        if call is not None and call.operation.name == "AssumeRole":
            caller = sts._caller_identity(headers, query_params)
            if not _may_assume(caller, call.parameters):
                role = call.parameters.get("RoleArn", "")
                message = f"User: {caller['userArn']} is not authorized to perform: sts:AssumeRole on resource: {role}"
                return sts._error(403, "AccessDenied", message, ns="sts")
        return await original(method, path, headers, body, query_params)

    return handle_request


def _may_assume(caller: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Whether the role exists and its trust policy names the caller, who is no service."""
    role = iam.find_role(parameters.get("RoleArn", ""))
    if role is None:
        return False
    document = role.get("AssumeRolePolicyDocument") or "{}"
    policy = json.loads(document) if isinstance(document, str) else document
    statements = policy.get("Statement", [])
    people = [
        statement
        for statement in ([statements] if isinstance(statements, dict) else statements)
        # ministack would let an account's root in through a service's name.
        if not isinstance(statement.get("Principal"), dict) or "Service" not in statement["Principal"]
    ]
    context = EvalContext(
        principal_arn=caller["userArn"],
        principal_type=caller["principalType"],
        principal_account=caller["accountId"],
        action="sts:AssumeRole",
        resource_arn=role["Arn"],
        region=get_region(),
        service_context={
            "sts:externalid": parameters.get("ExternalId"),
            "sts:rolesessionname": parameters.get("RoleSessionName"),
        },
    )
    return evaluate_trust_policy({"Statement": people}, caller["userArn"], context)


def _resolve_condition_key(original: Callable[[str, EvalContext], Any]) -> Callable[[str, EvalContext], Any]:
    """aws:PrincipalArn of a session is the role's ARN; ministack gives the session's."""

    def resolve_condition_key(key: str, ctx: EvalContext) -> Any:
        if key.lower() == "aws:principalarn" and ":assumed-role/" in ctx.principal_arn:
            return iam.role_of_session(ctx.principal_arn)
        return original(key, ctx)

    return resolve_condition_key


def _execution_credentials(original: Callable[[dict], dict[str, str]]) -> Callable[[dict], dict[str, str]]:
    """A session of the function's role, named after the function; without such a role the account's root, as before."""

    def execution_credentials(config: dict) -> dict[str, str]:
        role = iam.find_role(config.get("Role", ""))
        if role is None:
            return original(config)
        account = role["Arn"].split(":")[4]
        digest = hashlib.sha256(f"{config['FunctionArn']}:{role['Arn']}:{role['RoleId']}".encode()).hexdigest()
        access_key, secret, token = f"ASIA{digest[:16].upper()}", digest[16:], f"token-{digest}"
        sts.register_session(
            access_key,
            {
                "Arn": f"arn:aws:sts::{account}:assumed-role/{role['RoleName']}/{config['FunctionName']}",
                "UserId": f"{role['RoleId']}:{config['FunctionName']}",
                "SecretAccessKey": secret,
                "SessionToken": token,
                "AccountId": account,
                "PrincipalType": "AssumedRole",
            },
        )
        return {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}

    return execution_credentials
