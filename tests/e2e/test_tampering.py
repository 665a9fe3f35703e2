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
        template = self.aws.client("cloudformation").get_template(StackName=local.STACK, TemplateStage="Processed")
        body = template["TemplateBody"]
        self.template = json.loads(body) if isinstance(body, str) else body
        self.parts = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in stack["StackResourceSummaries"]}
        # The deployment itself may still be reported, as CloudFormation's: two levels lower.
        self.alerts = guarded.inbox("AlertsTopicArn", detection=["guard-tampered"], severity=["Critical"])
        self.findings = guarded.inbox("FindingsTopicArn", detection=["guard-tampered"], severity=["Critical"])
        self.milder = guarded.inbox("AlertsTopicArn", detection=["guard-tampered"], severity=["Medium"])
        self.put_back = guarded.inbox("AlertsTopicArn", detection=["guard-tampered"], severity=["Informational"])
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


def test_a_subscription_that_is_removed_is_medium(guard: Guard) -> None:
    guard.client("sns").unsubscribe(SubscriptionArn=guard.victim)
    alert = guard.milder.next(lambda message: message.attributes["event_name"] == "Unsubscribe", timeout=60)
    assert "[MEDIUM] KMS Key Guard: subscription removed" in alert.subject
    assert "mallory" in alert.body and part(guard, "victim") in alert.body


def another_pattern(g: Guard) -> None:
    on_rules(g).put_rule(Name=g.parts["ApiCallRule"], EventPattern='{"source": ["aws.kms"]}')


def transformed(g: Guard) -> None:
    (target,) = on_rules(g).list_targets_by_rule(Rule=g.parts["ApiCallRule"])["Targets"]
    on_rules(g).put_targets(Rule=g.parts["ApiCallRule"], Targets=[{**target, "Input": "{}"}])


def rule_again(name: str) -> Act:
    """Puts the rule and its target as the stack has them."""

    def act(g: Guard) -> None:
        template = g.template["Resources"][name]["Properties"]["EventPattern"]
        pattern = template if isinstance(template, str) else json.dumps(template)
        on_rules(g).put_rule(Name=g.parts[name], EventPattern=pattern)

    return act


def target_again(g: Guard) -> None:
    rules = on_rules(g)
    targets = rules.list_targets_by_rule(Rule=g.parts["TamperedTrailRule"])["Targets"]
    rules.put_targets(Rule=g.parts["ApiCallRule"], Targets=[t for t in targets if t["Id"] == "alert-function"])


def failures_again(g: Guard) -> None:
    functions, name = on_functions(g), g.parts["AlertFunction"]
    now = functions.get_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST")
    kept = {key: now[key] for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")}
    functions.put_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST", **kept)


PUT_BACK: dict[str, tuple[Act | None, Act, str]] = {
    "PutRule": (another_pattern, rule_again("ApiCallRule"), "rule put back"),
    "PutTargets": (transformed, target_again, "rule put back"),
    "PutFunctionEventInvokeConfig": (None, failures_again, "function's handling of failures put back"),
    "SetTopicAttributes": (
        None,
        lambda g: g.client("sns").set_topic_attributes(
            TopicArn=g.outputs["AlertsTopicArn"], AttributeName="KmsMasterKeyId", AttributeValue=""
        ),
        "topic put back",
    ),
    "SetQueueAttributes": (
        None,
        lambda g: g.client("sqs").set_queue_attributes(
            QueueUrl=g.outputs["AlertFailureQueueUrl"], Attributes={"MessageRetentionPeriod": "1209600"}
        ),
        "queue put back",
    ),
}
"""By the name in CloudTrail's record: the same call with something else, if that can be undone; the call; what the alert says."""


@pytest.mark.parametrize("event_name", PUT_BACK)
def test_who_puts_a_part_back_pages_nobody(guard: Guard, event_name: str) -> None:
    harm, act, happened = PUT_BACK[event_name]
    if harm:
        harm(guard)
        alert = guard.alerts.next(lambda message: message.attributes["event_name"] == event_name, timeout=60)
        assert "[CRITICAL]" in alert.subject
        guard.findings.next()
    act(guard)
    alert = guard.put_back.next(lambda message: message.attributes["event_name"] == event_name, timeout=60)
    assert f"[INFO] KMS Key Guard: {happened}" in alert.subject
    assert not guard.alerts.all()


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
    alert = guard.milder.next(
        lambda message: message.attributes["event_name"].startswith("UpdateFunctionConfiguration"), timeout=60
    )
    assert "[MEDIUM] KMS Key Guard: function's settings changed" in alert.subject
    assert part(guard, "AlertFunction") in alert.body
    assert "CloudFormation did it" in alert.body
    assert "mallory" in alert.body
    assert not guard.alerts.all()
