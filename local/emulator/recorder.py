"""What the guard's roles and its operators call, written down for a policy engine: who, which action, on what.

Only if `LOCAL_AWS_CALLS` names a folder: each call once, as a line in a file of this process.
"""

import json
import os
from pathlib import Path
from typing import Any

from ministack.core.responses import get_account_id, get_region

from .calls import Call

ROLES = ("kms-key-guard", "keyguard-")
"""What the names of these roles begin with."""

ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction"}
"""Operations that IAM calls otherwise."""

NO_PERMISSION = ("sts:GetCallerIdentity",)

FOLDER = os.environ.get("LOCAL_AWS_CALLS", "")
"""Where to; empty if nobody wants it."""

_written: set[str] = set()


def note(call: Call, identity: dict[str, Any]) -> None:
    """Write a call down, if a role of the guard or of its operators made it."""
    role = identity.get("sessionContext", {}).get("sessionIssuer", {})
    if not role.get("userName", "").startswith(ROLES):
        return
    service = {"monitoring": "cloudwatch"}.get(call.service, call.service)
    action = f"{service}:{call.operation.name}"
    if action in NO_PERMISSION:
        return
    line = json.dumps({"principal": role["arn"], "action": ACTIONS.get(action, action), "resource": _resource(call)})
    if line not in _written:
        _written.add(line)
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        with (Path(FOLDER) / f"{os.getpid()}.jsonl").open("a") as lines:
            lines.write(line + "\n")


def _resource(call: Call) -> str:
    """What IAM checks the call against, after the Service Authorization Reference; `*` where that is nothing."""
    asked, operation = call.parameters, call.operation.name

    def arn(rest: str, service: str = call.service, account: str = "") -> str:
        return f"arn:aws:{service}:{get_region()}:{account or get_account_id()}:{rest}"

    def named(field: str, prefix: str) -> str:
        name = asked.get(field, "")
        return name if name.startswith("arn:") else arn(prefix + name) if name else "*"

    match call.service:
        case "kms":
            return "*" if operation == "ListAliases" else named("KeyId", "key/")
        case "sns":
            return asked.get("TopicArn") or asked.get("SubscriptionArn", "*").rpartition(":")[0] or "*"
        case "sqs":
            account, _, name = asked.get("QueueUrl", "").rpartition("/")
            return arn(name, account=account.rpartition("/")[2]) if name else named("QueueName", "")
        case "lambda":
            return named("FunctionName", "function:")
        case "events" if operation == "PutEvents":
            return arn("event-bus/default")
        case "events":
            bus = asked.get("EventBusName", "default").rpartition("/")[2]
            return named("Rule" if "Rule" in asked else "Name", "rule/" if bus == "default" else f"rule/{bus}/")
        case "scheduler":
            return named("Name", f"schedule/{asked.get('GroupName', 'default')}/")
        case "cloudformation" if "StackSetName" in asked:
            return arn(f"stackset/{asked['StackSetName']}:0f1e2d3c-0000-4000-8000-000000000003")
        case "cloudformation":
            stack = named("StackName", "stack/")
            return stack if stack == "*" or stack.count("/") > 1 else f"{stack}/0f1e2d3c-0000-4000-8000-000000000002"
        case "logs":
            group = asked.get("logGroupName") or asked.get("logGroupNamePrefix")
            return arn(f"log-group:{group}:log-stream:{asked.get('logStreamName', '')}") if group else "*"
        case "cloudtrail":
            return named("Name" if "Name" in asked else "TrailName", "trail/")
        case "monitoring":
            return arn("alarm:*", "cloudwatch") if operation == "DescribeAlarms" else "*"
        case "organizations" if "ParentId" in asked:
            kind = "root" if asked["ParentId"].startswith("r-") else "ou"
            return f"arn:aws:organizations::123456789012:{kind}/o-a1b2c3d4e5/{asked['ParentId']}"
        case "sts":
            return asked.get("RoleArn", "*")
        case _:
            return "*"
