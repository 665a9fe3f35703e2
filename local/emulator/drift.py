"""CloudFormation: change sets with DeploymentMode REVERT_DRIFT, which ministack takes for ordinary ones without a change.

AWS page: "Using drift-aware change sets". What was deleted past CloudFormation is created anew, what was changed gets the
template's values back, as far as the template names them. Here for the types that doctor's advice is about.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.services import cloudwatch, eventbridge, lambda_svc, scheduler, sqs
from ministack.services.cloudformation import changesets
from ministack.services.cloudformation import handlers as operations

from .pinned import replace_entry, require


def mend() -> None:
    """Let a change set put back what was changed or deleted."""
    handlers, where = operations._ACTION_HANDLERS, "_ACTION_HANDLERS"
    replace_entry(handlers, "CreateChangeSet", where, _create)
    replace_entry(handlers, "ExecuteChangeSet", where, _execute)
    require(changesets, "_find_change_set")
    require(cloudwatch, "_alarms")
    require(eventbridge, "_rule_key _rules")
    require(lambda_svc, "_functions")
    require(scheduler, "_schedules")
    require(sqs, "_queues")


def _rule(name: str, properties: dict[str, Any]) -> bool:
    bus = properties.get("EventBusName", "default")
    return eventbridge._rule_key(name.rpartition("|")[2], bus) in eventbridge._rules


EXISTS: dict[str, Callable[[str, dict[str, Any]], bool]] = {
    "AWS::CloudWatch::Alarm": lambda name, _: name in cloudwatch._alarms,
    "AWS::Events::Rule": _rule,
    "AWS::Lambda::Function": lambda name, _: name in lambda_svc._functions,
    "AWS::SQS::Queue": lambda url, _: url in sqs._queues,
    "AWS::Scheduler::Schedule": lambda name, of: f"{of.get('GroupName', 'default')}/{name}" in scheduler._schedules,
}


def _one(params: dict[str, Any], name: str) -> str:
    value = params.get(name, "")
    return value[0] if isinstance(value, list) else value


def _create(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_change_set(params: dict[str, Any]) -> Any:
        answer = original(params)
        if _one(params, "DeploymentMode") == "REVERT_DRIFT" and answer[0] == 200:
            _, change_set = changesets._find_change_set(_one(params, "ChangeSetName"), _one(params, "StackName"))
            change_set |= {"Status": "CREATE_COMPLETE", "ExecutionStatus": "AVAILABLE", "StatusReason": ""}
            change_set["_revert_drift"] = True
        return answer

    return create_change_set


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    def execute_change_set(params: dict[str, Any]) -> Any:
        _, change_set = changesets._find_change_set(_one(params, "ChangeSetName"), _one(params, "StackName"))
        stack = operations._resolve_stack(change_set["StackName"]) if change_set else None
        if stack and change_set.get("_revert_drift"):
            _forget(stack["_resources"])
        return original(params)

    return execute_change_set


def _forget(resources: dict[str, dict[str, Any]]) -> None:
    """Take what is gone out of the stack, and let what is there look changed, so that the update touches it."""
    for logical_id, record in list(resources.items()):
        exists = EXISTS.get(record["ResourceType"])
        if not exists:
            continue
        if exists(record["PhysicalResourceId"], record["Properties"]):
            record["Properties"] = json.loads(json.dumps(record["Properties"])) | {"Drifted": True}
        else:
            del resources[logical_id]
