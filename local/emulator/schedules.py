"""Scheduler and scheduled rules: what they send, how often they try, and a way to fire one at a time of one's choice.

AWS pages: "Adding context attributes in EventBridge Scheduler", "Configuring a dead-letter queue for EventBridge
Scheduler", "Creating a rule that runs on a schedule".
"""

import json
import logging
import uuid
from collections.abc import Callable
from time import gmtime, strftime
from time import time as now
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import eventbridge, lambda_svc, scheduler

from . import events, iam
from .pinned import replace, require

log = logging.getLogger("local.emulator.schedules")


def mend() -> None:
    """Send what a schedule's Input says, under its role."""
    replace(eventbridge, "_invoke_target", "target event rule view", _invoke_target)
    require(eventbridge, "_pattern_event_view _rule_key _rules _targets")
    require(scheduler, "_schedules _tick_schedules")


def _invoke_target(original: Callable[..., None]) -> Callable[..., None]:
    """A schedule comes through the same function as a rule; its source tells it apart."""

    def invoke_target(target: dict, event: dict, rule: dict, view: Any = None) -> None:
        if event.get("Source") == "aws.scheduler" and "ScheduleExpression" in rule and "Target" in rule:
            _invoke(rule, float(event["Time"]))
        else:
            original(target, event, rule, view)

    return invoke_target


def fire_schedule(account: str, region: str, name: str, time: float | None = None, group: str = "default") -> None:
    """Fire a schedule as if that time had come; a disabled one doesn't fire. KeyError if there is none."""
    with request_scope(account, region):
        schedule = scheduler._schedules[f"{group}/{name}"]
        if schedule.get("State", "ENABLED") == "ENABLED":
            _invoke(schedule, time or now())


def fire_rule(account: str, region: str, name: str, time: float | None = None, bus: str = "default") -> None:
    """Fire a scheduled rule as if that time had come; a disabled one doesn't fire. KeyError if there is none."""
    with request_scope(account, region):
        key = eventbridge._rule_key(name, bus)
        rule = eventbridge._rules[key]
        if not rule.get("ScheduleExpression") or rule.get("State", "ENABLED") != "ENABLED":
            return
        event = {
            "EventId": str(uuid.uuid4()),
            "Source": "aws.events",
            "DetailType": "Scheduled Event",
            "Detail": "{}",
            "EventBusName": bus,
            "Time": int(time or now()),
            "Resources": [rule["Arn"]],
            "Account": account,
            "Region": region,
        }
        view = eventbridge._pattern_event_view(event)
        for target in list(eventbridge._targets.get(key, [])):
            eventbridge._invoke_target(target, event, rule, view)


def _invoke(schedule: dict[str, Any], at: float) -> None:
    """Invoke the schedule's target with its Input, or with the event that Scheduler sends where there is none."""
    target, arn = schedule["Target"], schedule["Arn"]
    scheduled = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(at))
    execution = str(uuid.uuid4())
    attributes = {
        "schedule-arn": arn,
        "scheduled-time": scheduled,
        "execution-id": execution,
        "attempt-number": "1",
    }
    account, region = arn.split(":")[4], arn.split(":")[3]
    payload = target.get("Input") or json.dumps(
        {
            "version": "0",
            "id": execution,
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": account,
            "time": scheduled,
            "region": region,
            "resources": [arn],
            "detail": "{}",
        }
    )
    for name, value in attributes.items():
        payload = payload.replace(f"<aws.scheduler.{name}>", value)
    if ":lambda:" in target["Arn"]:
        _invoke_function(target, payload, attributes)
    else:
        event = {"EventId": execution, "Source": "aws.scheduler", "DetailType": "", "Detail": "{}", "Time": at}
        eventbridge._invoke_target({**target, "Input": payload}, event, {"Name": schedule["Name"], "Arn": arn})


def _invoke_function(target: dict[str, Any], payload: str, attributes: dict[str, str]) -> None:
    """Invoke asynchronously, as the schedule's role; what can't be delivered goes to the target's dead-letter queue."""
    func, config, _ = lambda_svc._get_func_record_for_ref(target["Arn"])
    reason = _refusal(target, "lambda:InvokeFunction", target["Arn"], attributes["schedule-arn"])
    if reason:
        _dead_letter(target, payload, attributes, "AccessDeniedException", reason)
    elif not func or not config:
        message = f"Function not found: {target['Arn']}"
        _dead_letter(target, payload, attributes, "ResourceNotFoundException", message)
    else:
        record = lambda_svc._execution_record_for_config(func, config)
        lambda_svc.invoke_async_with_retry(record, json.loads(payload))


def _refusal(target: dict[str, Any], action: str, resource_arn: str, schedule_arn: str) -> str:
    """What a role's policies see as the source is the schedule's group (since September 2023)."""
    group_arn = schedule_arn.rsplit("/", 1)[0].replace(":schedule/", ":schedule-group/")
    role = target.get("RoleArn", "")
    return iam.role_refuses(role, "scheduler.amazonaws.com", action, resource_arn, group_arn)


def _dead_letter(target: dict[str, Any], payload: str, attributes: dict[str, str], code: str, message: str) -> None:
    """Store what couldn't be delivered, again as the schedule's role, or lose it, as AWS does."""
    queue = (target.get("DeadLetterConfig") or {}).get("Arn", "")
    if not queue or _refusal(target, "sqs:SendMessage", queue, attributes["schedule-arn"]):
        log.warning("invocation lost: %s (%s)", message, queue or "no dead letter queue")
        return
    facts = {
        "SCHEDULE_ARN": attributes["schedule-arn"],
        "SCHEDULED_TIME": attributes["scheduled-time"],
        "EXECUTION_ID": attributes["execution-id"],
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
    }
    events.send(queue, payload, facts)
