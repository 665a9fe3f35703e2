"""Somebody switches off parts of the guard, or the trail, on the local AWS: the guard tells at once, and only of harm."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local import aws as local
from local.aws import LocalAws
from local.build import LOGS

from .conftest import Guarded

TRAIL = "management"
WITHOUT_KMS = [{"ReadWriteType": "All", "ExcludeManagementEventSources": ["kms.amazonaws.com"]}]
WITHOUT_KMS_ADVANCED = [
    {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Management"]},
            {"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]},
        ]
    }
]
WITH_KMS = [{"ReadWriteType": "WriteOnly", "ExcludeManagementEventSources": ["rdsdata.amazonaws.com"]}]
WITH_KMS_ADVANCED = [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}]


class Guard:
    """A guard, a person who works against it, and a subscriber to what the guard says of itself."""

    def __init__(self, guarded: Guarded) -> None:
        self.aws, self.outputs = guarded.aws, guarded.outputs
        self._person = self.aws.person("mallory", "platform-admin")
        stack = self.aws.client("cloudformation").list_stack_resources(StackName=local.STACK)
        self.parts = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in stack["StackResourceSummaries"]}
        # The deployment itself may still be reported, as CloudFormation's: two levels lower.
        self.alerts = guarded.inbox("AlertsTopicArn", detection=["guard-tampered"], severity=["Critical"])
        self.findings = guarded.inbox("FindingsTopicArn", detection=["guard-tampered"], severity=["Critical"])
        self.by_cloudformation = guarded.inbox("AlertsTopicArn", detection=["guard-tampered"], severity=["Medium"])
        self.victim = self.aws.client("sns").subscribe(
            TopicArn=self.outputs["AlertsTopicArn"],
            Protocol="sqs",
            Endpoint="arn:aws:sqs:eu-west-1:111122223333:victim",
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]

    def client(self, service: str) -> Any:
        """Acts as the person."""
        return self.aws.client(service, **self._person)


@pytest.fixture(scope="module")
def guard(built: None) -> Iterator[Guard]:
    """A guard of its own, whose parts each test breaks another one of."""
    with LocalAws(retry_delay=0.1, log=LOGS / "aws-tampering.log") as aws:
        aws.start_trail()
        yield Guard(Guarded(aws, local.deploy_directly(aws)))


Act = Callable[[Guard], Any]
"""A call of the person."""


def on_rules(g: Guard) -> Any:
    return g.client("events")


def on_functions(g: Guard) -> Any:
    return g.client("lambda")


def on_trails(g: Guard) -> Any:
    return g.client("cloudtrail")


def disable_schedule(g: Guard) -> None:
    scheduler = g.client("scheduler")
    now = scheduler.get_schedule(Name=g.parts["SweepSchedule"])
    kept = {key: now[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**kept, State="DISABLED")


def remove_targets(g: Guard) -> None:
    rule = g.parts["AlertFunctionServiceEventRule"]
    ids = [target["Id"] for target in on_rules(g).list_targets_by_rule(Rule=rule)["Targets"]]
    on_rules(g).remove_targets(Rule=rule, Ids=ids)


def filter_subscriber(g: Guard) -> None:
    g.client("sns").set_subscription_attributes(
        SubscriptionArn=g.victim, AttributeName="FilterPolicy", AttributeValue='{"severity": ["none"]}'
    )


HARM: dict[str, tuple[Act, str, str, str]] = {
    "DisableRule": (
        lambda g: on_rules(g).disable_rule(Name=g.parts["ApiCallRule"]),
        "AWS::Events::Rule",
        "ApiCallRule",
        "rule disabled",
    ),
    "RemoveTargets": (remove_targets, "AWS::Events::Rule", "AlertFunctionServiceEventRule", "rule's targets removed"),
    "PutFunctionConcurrency20171031": (
        lambda g: on_functions(g).put_function_concurrency(
            FunctionName=g.parts["WatchFunction"], ReservedConcurrentExecutions=0
        ),
        "AWS::Lambda::Function",
        "WatchFunction",
        "function throttled",
    ),
    "DeleteFunction20150331": (
        lambda g: on_functions(g).delete_function(FunctionName=g.parts["WatchFunction"]),
        "AWS::Lambda::Function",
        "WatchFunction",
        "function deleted",
    ),
    "SetSubscriptionAttributes": (
        filter_subscriber,
        "AWS::SNS::Subscription",
        "victim",
        "subscription filtered",
    ),
    "Unsubscribe": (
        lambda g: g.client("sns").unsubscribe(SubscriptionArn=g.victim),
        "AWS::SNS::Subscription",
        "victim",
        "subscription removed",
    ),
    "PurgeQueue": (
        lambda g: g.client("sqs").purge_queue(QueueUrl=g.outputs["AlertFailureQueueUrl"]),
        "AWS::SQS::Queue",
        "AlertFailureQueue",
        "queue emptied",
    ),
    "DisableAlarmActions": (
        lambda g: g.client("cloudwatch").disable_alarm_actions(AlarmNames=[g.parts["WatchSilentAlarm"]]),
        "AWS::CloudWatch::Alarm",
        "WatchSilentAlarm",
        "alarm silenced",
    ),
    "DeleteAlarms": (
        lambda g: g.client("cloudwatch").delete_alarms(AlarmNames=[g.parts["AlertFailureAlarm"]]),
        "AWS::CloudWatch::Alarm",
        "AlertFailureAlarm",
        "alarm deleted",
    ),
    "UpdateSchedule": (disable_schedule, "AWS::Scheduler::Schedule", "SweepSchedule", "schedule disabled"),
    "DeleteLogGroup": (
        lambda g: g.client("logs").delete_log_group(logGroupName=g.parts["WatchLogGroup"]),
        "AWS::Logs::LogGroup",
        "WatchLogGroup",
        "log deleted",
    ),
    "StopLogging": (lambda g: on_trails(g).stop_logging(Name=TRAIL), "AWS::CloudTrail::Trail", TRAIL, "trail stopped"),
}
"""By the name in CloudTrail's record: the call, what kind of part, which one, and what the alert says of it."""


def part(guard: Guard, name: str) -> str:
    """A part as the alert names it."""
    if name == "victim":
        return guard.victim.split(":", 5)[5]
    own = guard.parts.get(name, name)
    return own.rsplit("/", 1)[-1] if own.startswith("http") else own


def expect(guard: Guard, event_name: str, kind: str, named: str, happened: str) -> None:
    """The next alert and its finding are about this."""
    alert, finding = guard.alerts.next(timeout=60), guard.findings.next()
    assert alert.attributes["event_name"] == event_name, alert.subject
    assert f"[CRITICAL] KMS Key Guard: {happened}" in alert.subject
    assert named in alert.body
    assert "mallory" in alert.body
    document = json.loads(finding.body)
    assert (document["resources"][0]["type"], document["resources"][0]["uid"]) == (kind, named)
    assert document["severity"] == "Critical"


@pytest.mark.parametrize("event_name", HARM)
def test_who_switches_a_part_off_is_told_at_once(guard: Guard, event_name: str) -> None:
    act, kind, name, happened = HARM[event_name]
    act(guard)
    try:
        expect(guard, event_name, kind, part(guard, name), happened)
    finally:
        on_trails(guard).start_logging(Name=TRAIL)


@pytest.mark.parametrize(
    "selectors",
    [{"EventSelectors": WITHOUT_KMS}, {"AdvancedEventSelectors": WITHOUT_KMS_ADVANCED}],
    ids=["basic", "advanced"],
)
def test_a_trail_that_leaves_kms_out_is_told_at_once(guard: Guard, selectors: dict[str, Any]) -> None:
    on_trails(guard).put_event_selectors(TrailName=TRAIL, **selectors)
    expect(guard, "PutEventSelectors", "AWS::CloudTrail::Trail", TRAIL, "trail no longer records KMS")


def test_what_switches_nothing_off_and_what_is_refused_is_silence(guard: Guard) -> None:
    trails, rules = on_trails(guard), on_rules(guard)
    trails.put_event_selectors(TrailName=TRAIL, EventSelectors=WITH_KMS)
    trails.put_event_selectors(TrailName=TRAIL, AdvancedEventSelectors=WITH_KMS_ADVANCED)
    trails.start_logging(Name=TRAIL)
    rules.enable_rule(Name=guard.parts["AlertFunctionKmsEventRule"])
    guard.client("sns").set_topic_attributes(
        TopicArn=guard.outputs["AlertsTopicArn"], AttributeName="DisplayName", AttributeValue="Keys"
    )
    # Somebody else's rule, and a call that fails.
    rules.put_rule(Name="other", EventPattern='{"source": ["own"]}')
    rules.disable_rule(Name="other")
    with pytest.raises(trails.exceptions.TrailNotFoundException):
        trails.stop_logging(Name="none")
    # What comes after all of them is the first to be heard.
    rules.disable_rule(Name=guard.parts["AlertFunctionGuardTestRule"])
    expect(guard, "DisableRule", "AWS::Events::Rule", guard.parts["AlertFunctionGuardTestRule"], "rule disabled")
    assert not guard.alerts.all()


def test_an_update_of_the_stack_is_told_two_levels_lower(guard: Guard) -> None:
    stacks, mine = guard.client("cloudformation"), {"StackName": local.STACK}
    kept = [p["ParameterKey"] for p in stacks.describe_stacks(**mine)["Stacks"][0]["Parameters"]]
    parameters: list[Any] = [{"ParameterKey": key, "UsePreviousValue": True} for key in kept if key != "EnrichTimeoutMs"]
    stacks.update_stack(
        **mine,
        UsePreviousTemplate=True,
        Parameters=[*parameters, {"ParameterKey": "EnrichTimeoutMs", "ParameterValue": "1234"}],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    alert = guard.by_cloudformation.next(
        lambda message: message.attributes["event_name"].startswith("UpdateFunctionConfiguration"), timeout=60
    )
    assert "[MEDIUM] KMS Key Guard: function's settings changed" in alert.subject
    assert part(guard, "AlertFunction") in alert.body
    assert "CloudFormation did it" in alert.body
    assert "mallory" in alert.body
    assert not guard.alerts.all()
