"""CloudFormation: the calls it makes for a stack are recorded as CloudTrail records them, made by CloudFormation, and a stack's
status reaches EventBridge.

ministack's CloudFormation writes into the services' stores, past every record. Here each resource that can silence
the guard, and each key, leaves the records of the calls that AWS's CloudFormation makes for it, on behalf of whoever changed the
stack: `invokedBy`, `sourceIPAddress` and `userAgent` say cloudformation.amazonaws.com.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge, kms
from ministack.services.cloudformation import changesets, provisioners
from ministack.services.cloudformation import handlers as operations
from ministack.services.cloudformation import stacks as deployments

from . import cloudtrail, events
from .pinned import replace, replace_entry

PRINCIPAL = "cloudformation.amazonaws.com"

Calls = list[tuple[str, str, dict[str, Any]]]
"""Service, event name and request parameters."""


def mend() -> None:
    """Record what CloudFormation does to these resources, and let conditions ask where the stack is."""
    for module in (changesets, deployments, operations):
        replace(module, "_evaluate_conditions", "template params", _knowing_the_place)
        parameters = "stack_id stack_name logical_id resource_type status reason physical_id detailed_status"
        replace(module, "_add_event", parameters, _sent)
    for resource_type, calls in RECORDED.items():
        handlers = provisioners._RESOURCE_HANDLERS.get(resource_type, {})
        where = f"_RESOURCE_HANDLERS[{resource_type!r}]"
        replace_entry(handlers, "create", where, lambda original, calls=calls: _created(original, calls))
        replace_entry(handlers, "update", where, lambda original, calls=calls: _updated(original, calls))
        replace_entry(handlers, "delete", where, lambda original, calls=calls: _deleted(original, calls))
    rules, where = provisioners._RESOURCE_HANDLERS["AWS::Events::Rule"], "_RESOURCE_HANDLERS['AWS::Events::Rule']"
    replace_entry(rules, "create", where, _rule_of_a_bus)
    replace_entry(rules, "update", where, _changed_rule_of_a_bus)
    replace_entry(rules, "delete", where, lambda original: lambda name, *more: original(name.rpartition("|")[2], *more))


def _sent(original: Callable[..., None]) -> Callable[..., None]:
    """A stack's change of status is an event of CloudFormation's own (AWS page: "Stack Status Change event detail")."""

    def add_event(stack_id: str, stack_name: str, logical_id: str, resource_type: str, status: str, *more: Any, **named: Any) -> None:
        original(stack_id, stack_name, logical_id, resource_type, status, *more, **named)
        if resource_type == "AWS::CloudFormation::Stack" and logical_id == stack_name:
            reason = named.get("reason", more[0] if more else "")
            detail = {"stack-id": stack_id, "status-details": {"status": status, "status-reason": reason}}
            eventbridge._ensure_default_bus()
            events.deliver("aws.cloudformation", "CloudFormation Stack Status Change", detail, [stack_id])

    return add_event


def _knowing_the_place(original: Callable[..., Any]) -> Callable[..., Any]:
    """Pseudo parameters in conditions, which ministack takes for their names, and Fn::Sub and Fn::Split, which it doesn't know
    there."""

    def evaluate_conditions(template: dict, params: dict) -> dict:
        place = {"AWS::AccountId": get_account_id(), "AWS::Region": get_region(), "AWS::Partition": "aws"}
        known = {**{name: {"Value": value} for name, value in place.items()}, **params}

        def filled(node: Any) -> Any:
            if isinstance(node, list):
                return [filled(item) for item in node]
            if not isinstance(node, dict):
                return node
            if isinstance(text := node.get("Fn::Sub"), str):
                return re.sub(r"\$\{([^}]+)}", lambda name: str(known[name[1]]["Value"]), text)
            if "Fn::Split" in node:
                separator, text = filled(node["Fn::Split"])
                return text.split(separator)
            return {key: filled(value) for key, value in node.items()}

        return original({**template, "Conditions": filled(template.get("Conditions", {}))}, known)

    return evaluate_conditions


def _rule_id(name: str, props: dict) -> str:
    """A rule's physical id has the bus before it, if that isn't the default one."""
    bus = props.get("EventBusName", "default").rpartition("/")[2]
    return name if bus == "default" else f"{bus}|{name}"


def _rule_of_a_bus(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(logical_id: str, props: dict, stack_name: str) -> Any:
        name, attributes = original(logical_id, props, stack_name)
        return _rule_id(name, props), attributes

    return create


def _changed_rule_of_a_bus(original: Callable[..., Any]) -> Callable[..., Any]:
    def update(physical_id: str, old_props: dict, new_props: dict, *more: Any) -> Any:
        name, attributes = original(physical_id.rpartition("|")[2], old_props, new_props, *more)
        return _rule_id(name, new_props), attributes

    return update


def _created(original: Callable[..., Any], calls: Callable[..., Calls]) -> Callable[..., Any]:
    def create(logical_id: str, props: dict, stack_name: str) -> Any:
        physical_id, attributes = original(logical_id, props, stack_name)
        _record(calls(physical_id, {}, props))
        return physical_id, attributes

    return create


def _updated(original: Callable[..., Any], calls: Callable[..., Calls]) -> Callable[..., Any]:
    def update(physical_id: str, old_props: dict, new_props: dict, *more: Any) -> Any:
        updated, attributes = original(physical_id, old_props, new_props, *more)
        _record(calls(updated, old_props, new_props))
        return updated, attributes

    return update


def _deleted(original: Callable[..., Any], calls: Callable[..., Calls]) -> Callable[..., Any]:
    def delete(physical_id: str, props: dict, *more: Any) -> None:
        original(physical_id, props, *more)
        _record(calls(physical_id, props, {}))

    return delete


def _record(calls: Calls) -> None:
    for service, name, parameters in calls:
        given = {key: value for key, value in parameters.items() if value not in (None, "", [])}
        record = cloudtrail.record_by_service(service, name, given, PRINCIPAL)
        if service == "kms":
            record |= _about_key(parameters["keyId"], name)
        cloudtrail.deliver(record)


def _about_key(key_id: str, name: str) -> dict[str, Any]:
    """What a record about a key says besides: `resources`, and an answer that names the key."""
    key = kms._resolve_key(key_id)
    answer = {"keyId": key["Arn"]}
    if name == "ScheduleKeyDeletion":
        answer["keyState"] = key["KeyState"]
        if key["KeyState"] == "PendingDeletion":
            answer["deletionDate"] = cloudtrail.cloudtrail_time(key["DeletionDate"])
    resource = {"accountId": key["Arn"].split(":")[4], "type": "AWS::KMS::Key", "ARN": key["Arn"]}
    return {"responseElements": answer, "resources": [resource]}


def _key(key_id: str, old: dict, new: dict) -> Calls:
    """A key that leaves its stack is scheduled for deletion."""
    if not new:
        days = old.get("PendingWindowInDays", 30)
        return [("kms", "ScheduleKeyDeletion", {"keyId": key_id, "pendingWindowInDays": days})]
    if not old:
        # The parameters are the template's, and the answer isn't what anyone here reads.
        return []
    calls: Calls = []
    if old.get("Enabled", True) != new.get("Enabled", True):
        calls.append(("kms", "EnableKey" if new.get("Enabled", True) else "DisableKey", {"keyId": key_id}))
    if old.get("KeyPolicy") != new.get("KeyPolicy"):
        policy = {"policyName": "default", "policy": json.dumps(new.get("KeyPolicy"))}
        bypass = new.get("BypassPolicyLockoutSafetyCheck")
        calls.append(("kms", "PutKeyPolicy", {"keyId": key_id, **policy, "bypassPolicyLockoutSafetyCheck": bypass}))
    return calls


def _rule(name: str, old: dict, new: dict) -> Calls:
    bus = (new or old).get("EventBusName")
    if not new:
        ids = [target["Id"] for target in old.get("Targets", [])]
        removed = ("events", "RemoveTargets", {"rule": name, "eventBusName": bus, "ids": ids})
        return [*([removed] if ids else []), ("events", "DeleteRule", {"name": name, "eventBusName": bus})]
    targets = [{"id": target["Id"], "arn": target["Arn"]} for target in new.get("Targets", [])]
    gone = {target["Id"] for target in old.get("Targets", [])} - {target["id"] for target in targets}
    pattern = new.get("EventPattern")
    rule = {"name": name, "eventBusName": bus, "state": new.get("State"), "eventPattern": pattern and str(pattern)}
    calls: Calls = [("events", "PutRule", {**rule, "scheduleExpression": new.get("ScheduleExpression")})]
    if gone:
        calls.append(("events", "RemoveTargets", {"rule": name, "eventBusName": bus, "ids": sorted(gone)}))
    if targets:
        calls.append(("events", "PutTargets", {"rule": name, "eventBusName": bus, "targets": targets}))
    return calls


def _function(name: str, old: dict, new: dict) -> Calls:
    of = {"functionName": name}
    if not new or not old:
        return [("lambda", "CreateFunction" if new else "DeleteFunction", of)]
    changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    calls: Calls = []
    if "Code" in changed:
        calls.append(("lambda", "UpdateFunctionCode", of))
    if changed - {"Code", "ReservedConcurrentExecutions", "Tags"}:
        calls.append(("lambda", "UpdateFunctionConfiguration", of))
    if "ReservedConcurrentExecutions" in changed:
        reserved = new.get("ReservedConcurrentExecutions")
        name = "DeleteFunctionConcurrency" if reserved is None else "PutFunctionConcurrency"
        calls.append(("lambda", name, {**of, "reservedConcurrentExecutions": reserved}))
    return calls


def _permission(sid: str, old: dict, new: dict) -> Calls:
    of = {"functionName": (new or old).get("FunctionName"), "statementId": sid}
    added = {**of, "action": new.get("Action"), "principal": new.get("Principal"), "sourceArn": new.get("SourceArn")}
    calls: Calls = [("lambda", "RemovePermission", of)] if old else []
    return [*calls, ("lambda", "AddPermission", added)] if new else calls


def _subscription(arn: str, old: dict, new: dict) -> Calls:
    if not new:
        return [("sns", "Unsubscribe", {"subscriptionArn": arn})]
    if old:
        return [("sns", "SetSubscriptionAttributes", {"subscriptionArn": arn})]
    return [("sns", "Subscribe", {"topicArn": new.get("TopicArn"), "protocol": new.get("Protocol")})]


def _alarm(name: str, old: dict, new: dict) -> Calls:
    if not new:
        return [("monitoring", "DeleteAlarms", {"alarmNames": [name]})]
    return [("monitoring", "PutMetricAlarm", {"alarmName": name})]


def _plain(
    service: str, created: str, updated: str, deleted: str, by: Callable[[str, dict], dict]
) -> Callable[..., Calls]:
    """A resource that is one call to create, to update and to delete, named by its physical id."""

    def calls(physical_id: str, old: dict, new: dict) -> Calls:
        name = deleted if not new else updated if old else created
        return [(service, name, by(physical_id, new or old))]

    return calls


RECORDED: dict[str, Callable[..., Calls]] = {
    "AWS::KMS::Key": _key,
    "AWS::Events::Rule": _rule,
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::Permission": _permission,
    "AWS::Lambda::EventInvokeConfig": _plain(
        "lambda",
        "PutFunctionEventInvokeConfig",
        "PutFunctionEventInvokeConfig",
        "DeleteFunctionEventInvokeConfig",
        lambda _, props: {"functionName": props.get("FunctionName"), "qualifier": props.get("Qualifier")},
    ),
    "AWS::SNS::Topic": _plain(
        "sns", "CreateTopic", "SetTopicAttributes", "DeleteTopic", lambda arn, _: {"topicArn": arn}
    ),
    "AWS::SNS::Subscription": _subscription,
    "AWS::SQS::Queue": _plain(
        "sqs", "CreateQueue", "SetQueueAttributes", "DeleteQueue", lambda url, _: {"queueUrl": url}
    ),
    "AWS::Scheduler::Schedule": _plain(
        "scheduler",
        "CreateSchedule",
        "UpdateSchedule",
        "DeleteSchedule",
        lambda name, props: {"name": name, "groupName": props.get("GroupName"), "state": props.get("State")},
    ),
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::IAM::Role": _plain("iam", "CreateRole", "UpdateRole", "DeleteRole", lambda name, _: {"roleName": name}),
}
