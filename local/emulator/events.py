"""EventBridge: which rules see an event, and how a function or a dead letter queue gets it.

AWS pages: "Management events from AWS services", "Invoking a Lambda function asynchronously",
"Using dead-letter queues to process undelivered events".
"""

import json
import logging
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import eventbridge, lambda_svc, sns, sqs

from . import logs
from .pinned import replace, require

log = logging.getLogger("local.emulator.events")

_delivery: ContextVar[tuple[dict, dict] | None] = ContextVar("_delivery", default=None)
"""The rule and the target that is being delivered to."""


def mend() -> None:
    """Make rules, functions and failures behave as on AWS."""
    replace(eventbridge, "_dispatch_event", "event view", lambda _: _dispatch_event)
    replace(eventbridge, "_invoke_target", "target event rule view", _invoke_target)
    replace(eventbridge, "_dispatch_to_lambda", "arn payload", lambda _: _dispatch_to_lambda)
    replace(eventbridge, "_dispatch_to_sns", "arn payload", lambda _: _dispatch_to_sns)
    require(sns, "SnsPublishError publish_internal")
    require(lambda_svc, "_execution_record_for_config _functions _get_func_record_for_ref invoke_async_with_retry")
    require(eventbridge, "_ensure_default_bus _matches_pattern_view _pattern_event_view _put_events _rules _targets")
    require(sqs, "_ensure_msg_fields _md5_msg_attrs _queue_by_arn")
    replace(lambda_svc, "_route_async_failure", "target_arn func_name event result", _route_async_failure)
    replace(sqs, "queue_policy_allows", "queue_arn service source_arn source_account", lambda _: _queue_allows)


def current_target() -> dict[str, Any]:
    """The target that is being delivered to."""
    delivery = _delivery.get()
    return delivery[1] if delivery else {}


def deliver(source: str, detail_type: str, detail: Any, resources: list[str] | None = None) -> None:
    """Put an event of an AWS service on the default bus of the current account and Region."""
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail), "Resources": resources or []}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def deliver_for(account: str, region: str, event: dict[str, Any]) -> None:
    """Put an event, given in EventBridge's envelope, on the default bus of an account and Region."""
    with request_scope(account, region):
        eventbridge._ensure_default_bus()
        deliver(event["source"], event["detail-type"], event.get("detail", {}), event.get("resources"))


def _dispatch_event(event: dict, view: Any = None) -> None:
    """Hand the event to the targets of every rule that sees it.

    AWS: a rule ENABLED doesn't see read-only management events; one ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS
    does. ministack: the first sees everything, the second never fires.
    """
    view = view or eventbridge._pattern_event_view(event)
    bus = event.get("EventBusName", "default")
    passed = event.get("_DispatchPath") or ()
    for key, rule in list(eventbridge._rules.items()):
        pattern = rule.get("EventPattern")
        if rule.get("EventBusName", "default") != bus or not pattern or key in passed:
            continue
        if _rule_sees(rule.get("State", ""), view) and eventbridge._matches_pattern_view(pattern, view, f"rule {key}"):
            for target in list(eventbridge._targets.get(key, [])):
                eventbridge._invoke_target(target, event, rule, view)


def _rule_sees(state: str, view: Any) -> bool:
    if state == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS":
        return True
    return state == "ENABLED" and not _is_read_only_management_event(view)


def _is_read_only_management_event(view: Any) -> bool:
    if view.envelope().get("detail-type") != "AWS API Call via CloudTrail":
        return False
    detail = view.event_with_detail().get("detail")
    return isinstance(detail, dict) and detail.get("readOnly") is True and detail.get("managementEvent") is not False


def _invoke_target(original: Callable[..., None]) -> Callable[..., None]:
    """Remember rule and target for the dead letter queue, which ministack doesn't have, nor log groups as targets."""

    def invoke_target(target: dict, event: dict, rule: dict, view: Any = None) -> None:
        token = _delivery.set((rule, target))
        try:
            if ":log-group:" in target["Arn"]:
                _dispatch_to_logs(target["Arn"], event)
            else:
                original(target, event, rule, view)
        finally:
            _delivery.reset(token)

    return invoke_target


def _dispatch_to_lambda(arn: str, payload: str) -> None:
    """Invoke the function asynchronously, with its retries and on-failure destination.

    AWS: what can't be delivered (function gone, permission missing) goes to the target's dead letter queue; what
    the function fails on is repeated and then goes to the function's own destination. ministack invokes once.
    """
    func, config, name = lambda_svc._get_func_record_for_ref(arn)
    if not func or not config:
        dead_letter(arn, payload, "NO_RESOURCE", f"Function not found: {arn}")
    elif not _function_allows(func, arn):
        dead_letter(arn, payload, "NO_PERMISSIONS", f"The rule may not invoke {arn}")
    else:
        record = lambda_svc._execution_record_for_config(func, config)
        lambda_svc.invoke_async_with_retry(record, json.loads(payload))
        log.info("rule -> function %s", name)


def _dispatch_to_sns(arn: str, payload: str) -> None:
    """Publish without a Subject, which EventBridge has none to give; ministack makes one up."""
    try:
        known = sns.publish_internal(arn, payload)
    except sns.SnsPublishError as refused:
        log.warning("rule -> topic %s: %s", arn, refused)
        return
    if known is None:
        dead_letter(arn, payload, "NO_RESOURCE", f"Topic not found: {arn}")


def _dispatch_to_logs(arn: str, event: dict) -> None:
    """Write the event to a log group; its resource policy isn't asked."""
    payload = json.dumps(eventbridge._pattern_event_view(event).event_with_detail())
    group = arn.split(":log-group:", 1)[1].removesuffix(":*")
    if not logs.write(group, str(uuid.uuid4()), payload):
        dead_letter(arn, payload, "NO_RESOURCE", f"Log group not found: {arn}")


def _function_allows(func: dict, arn: str) -> bool:
    delivery = _delivery.get()
    rule_arn = delivery[0]["Arn"] if delivery else ""
    return service_may("events.amazonaws.com", "lambda:InvokeFunction", arn, func.get("policy"), rule_arn)


def _queue_allows(queue_arn: str, service: str, source_arn: str, source_account: str) -> bool:
    """AWS: a queue takes from SNS or EventBridge what its policy allows. ministack asks the policy only under AUTH."""
    queue = sqs._queue_by_arn(queue_arn)
    policy = queue["attributes"].get("Policy") if queue else None
    return service_may(service, "sqs:SendMessage", queue_arn, policy, source_arn)


def service_may(service: str, action: str, resource_arn: str, policy: Any, source_arn: str) -> bool:
    context = EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource_arn,
        region=get_region(),
        secure_transport=True,
        service_context={"aws:sourcearn": source_arn, "aws:sourceaccount": get_account_id()},
    )
    return bool(policy) and evaluate_resource_policy(policy, context, service=service).decision == "Allow"


def dead_letter(target_arn: str, payload: str, code: str, message: str) -> None:
    """Store what the rule couldn't deliver in the target's dead letter queue, or lose it, as AWS does."""
    rule, target = _delivery.get() or ({}, {})
    queue_arn = (target.get("DeadLetterConfig") or {}).get("Arn", "")
    rule_arn = rule.get("Arn", "")
    if not queue_arn or not _queue_allows(queue_arn, "events.amazonaws.com", rule_arn, get_account_id()):
        log.warning("event lost: %s (%s)", message, queue_arn or "no dead letter queue")
        return
    facts = {"RULE_ARN": rule_arn, "TARGET_ARN": target_arn, "ERROR_CODE": code, "ERROR_MESSAGE": message}
    send(queue_arn, payload, facts)


def _route_async_failure(original: Callable[..., None]) -> Callable[..., None]:
    """Give an SQS destination the document that Lambda sends; ministack's lacks half of it."""

    def route_async_failure(target_arn: str, func_name: str, event: Any, result: dict) -> None:
        if ":sqs:" not in target_arn:
            original(target_arn, func_name, event, result)
            return
        config = lambda_svc._functions.get(func_name, {}).get("config", {})
        document = {
            "version": "1.0",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": f"{config.get('FunctionArn', '')}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            },
            "requestPayload": event,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": result.get("function_error") or "Unhandled",
            },
            "responsePayload": result.get("body"),
        }
        send(target_arn, json.dumps(document), {})

    return route_async_failure


def send(queue_arn: str, body: str, facts: dict[str, str]) -> None:
    """Put a message with these attributes into a queue, whatever its policy."""
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in facts.items()}
    queue = sqs._queue_by_arn(queue_arn)
    if queue is None:
        log.warning("message lost: no queue %s", queue_arn)
        return
    message = {
        "id": str(uuid.uuid4()),
        "body": body,
        "message_attributes": attributes,
        "md5_attrs": sqs._md5_msg_attrs(attributes),
    }
    sqs._ensure_msg_fields(message)
    queue["messages"].append(message)
