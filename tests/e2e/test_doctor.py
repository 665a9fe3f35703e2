"""`keyguard doctor`: each blind spot, made for real, is named, and the commands it gives fix it."""

import fcntl
import json
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import aws as local
from local import release
from local.aws import ACCOUNT, REGION, ROOT, STACK, Inbox, LocalAws, environment
from local.build import ARCHITECTURE, BUILD, LOGS, STATE
from local.release import FUNCTIONS

from .conftest import Guarded

KEYGUARD = ROOT / "target" / "debug" / "keyguard"
REPAIRER = "repairer"
"""Who pastes what doctor prints."""
GROUP = "cloudtrail-management"
SOURCE = release.Source("1.2.3", "0123abcd", 1_764_028_800, "rustc")
PATTERN = "{($.eventSource=kms.amazonaws.com) && (($.eventName=DisableKey) || ($.eventName=ScheduleKeyDeletion))}"


@dataclass
class Patient(Guarded):
    """A guard that doctor finds nothing wrong with, the auditors' alarm included."""

    saved: dict[str, Any] = field(default_factory=dict)

    def doctor(self, *options: str, region: str = REGION, account: str = ACCOUNT) -> "Diagnosis":
        command = [KEYGUARD, "doctor", "--format", "json", "--region", region, *options]
        role = "keyguard-prove" if "--prove" in options else "keyguard-doctor"
        if "--prove" in options:
            # A copy of the function that has sent no test within the last minute.
            functions = self.aws.client("lambda", region=region)
            functions.update_function_configuration(FunctionName=self.function(), Timeout=15)
        env = environment(**self.aws.environment(account, region, role))
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert run.stdout, run.stderr
        return Diagnosis(run.returncode, json.loads(run.stdout)["regions"], run.stderr)

    def part(self, logical: str) -> str:
        stack = self.aws.client("cloudformation")
        return stack.describe_stack_resource(StackName=STACK, LogicalResourceId=logical)["StackResourceDetail"][
            "PhysicalResourceId"
        ]

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"

    def function(self) -> str:
        return self.outputs["AlertFunctionName"]

    def listen(self, topic: str, name: str) -> str:
        """Subscribe a queue that nobody reads; returns the subscription."""
        arn = self.arn("sqs", name)
        self.aws.client("sqs").create_queue(QueueName=name)
        return self.aws.client("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True
        )["SubscriptionArn"]


@dataclass
class Diagnosis:
    status: int
    regions: list[dict[str, Any]]
    stderr: str

    def __getitem__(self, check: str) -> dict[str, Any]:
        (region,) = self.regions
        return next(c for c in [*region["checks"], *region.get("test", {}).get("checks", [])] if c["id"] == check)

    def not_well(self, expected: Collection[str] = ()) -> dict[str, str]:
        """What isn't well, but for what breaking the guard leaves behind: the alert about it may lie in a queue."""
        left = {"failures-empty", "alarms-quiet"} - set(expected)
        checks = [c for region in self.regions for c in region["checks"] if c["verdict"] != "pass" and c["id"] not in left]
        return {c["id"]: f"{c['verdict']}: {c['text']}" for c in checks}


pytestmark = pytest.mark.usefixtures("keyguard")


def start_trail(aws: LocalAws) -> None:
    """A trail with a log group."""
    aws.start_trail()
    aws.client("cloudtrail").update_trail(
        Name="management",
        CloudWatchLogsLogGroupArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}:*",
        CloudWatchLogsRoleArn=f"arn:aws:iam::{ACCOUNT}:role/trail",
    )


def auditors_filter(aws: LocalAws, pattern: str = PATTERN) -> None:
    metric = {"metricName": "KmsKeyLoss", "metricNamespace": "Audit", "metricValue": "1"}
    aws.client("logs").put_metric_filter(
        logGroupName=GROUP, filterName="kms", filterPattern=pattern, metricTransformations=[metric]
    )


def auditors_alarm(aws: LocalAws, action: str | None, **changes: Any) -> None:
    usual = {
        "AlarmName": "kms",
        "Namespace": "Audit",
        "MetricName": "KmsKeyLoss",
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "ActionsEnabled": True,
        "AlarmActions": [action] if action else [],
    }
    aws.client("cloudwatch").put_metric_alarm(**{**usual, **changes})


@pytest.fixture(scope="module")
def patient(built: None) -> Iterator[Patient]:
    with LocalAws(retry_delay=0.1, log=LOGS / "aws-doctor.log", place="single") as aws:
        aws.client("logs").create_log_group(logGroupName=GROUP)
        start_trail(aws)
        patient = Patient(aws, local.deploy_directly(aws))
        patient.listen(patient.outputs["AlertsTopicArn"], "people")
        patient.listen(patient.outputs["FindingsTopicArn"], "machines")
        auditors_filter(aws)
        auditors_alarm(aws, patient.outputs["AlertsTopicArn"])
        yield patient


def test_healthy_guard_passes_every_check(patient: Patient) -> None:
    diagnosis = patient.doctor()
    every = [check["id"] for check in diagnosis.regions[0]["checks"]]
    assert (diagnosis.not_well(every), diagnosis.status) == ({}, 0), diagnosis.stderr
    assert len(every) == len(set(every)) == 21


# ---- Blind spots that a command of doctor's mends -------------------------------------------------------------------


def selectors(**what: Any) -> Callable[[Patient], None]:
    return lambda p: p.aws.client("cloudtrail").put_event_selectors(TrailName="management", **what) and None


def basic(**fields: Any) -> Callable[[Patient], None]:
    data = [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::kept/"]}]
    return selectors(EventSelectors=[{"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": data, **fields}])


def advanced(*conditions: dict[str, Any]) -> Callable[[Patient], None]:
    management = {"Field": "eventCategory", "Equals": ["Management"]}
    return selectors(AdvancedEventSelectors=[{"Name": "m", "FieldSelectors": [management, *conditions]}])


def permission_removed(p: Patient) -> None:
    functions = p.aws.client("lambda")
    statements = json.loads(functions.get_policy(FunctionName=p.function())["Policy"])["Statement"]
    rule = p.part("ApiCallRule")
    (sid,) = [s["Sid"] for s in statements if s["Condition"]["ArnLike"]["AWS:SourceArn"].endswith(f"/{rule}")]
    functions.remove_permission(FunctionName=p.function(), StatementId=sid)


def customer_key(p: Patient, disabled: bool) -> None:
    kms = p.aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    p.aws.client("sns").set_topic_attributes(
        TopicArn=p.outputs["AlertsTopicArn"], AttributeName="KmsMasterKeyId", AttributeValue=key
    )
    if disabled:
        kms.disable_key(KeyId=key)


def actions_off(alarm: Callable[[Patient], str]) -> Callable[[Patient], None]:
    return lambda p: p.aws.client("cloudwatch").disable_alarm_actions(AlarmNames=[alarm(p)]) and None


KMS = "kms.amazonaws.com"
MENDED = {
    "trail stopped": (
        lambda p: p.aws.client("cloudtrail").stop_logging(Name="management"),
        "trail-logging", "fail", "The trail management is stopped, and no other covers eu-west-1.",
    ),
    "kms excluded": (
        basic(ExcludeManagementEventSources=[KMS]),
        "trail-records-kms", "fail", "it excludes kms.amazonaws.com (ExcludeManagementEventSources)",
    ),
    "kms excluded by advanced selector": (
        advanced({"Field": "eventSource", "NotEquals": [KMS, "rdsdata.amazonaws.com"]}),
        "trail-records-kms", "fail", "its advanced event selectors leave them out",
    ),
    "read-only selector": (
        basic(ReadWriteType="ReadOnly"), "trail-records-kms", "fail", "it records read-only events",
    ),
    "read-only advanced selector": (
        advanced({"Field": "readOnly", "Equals": ["true"]}),
        "trail-records-kms", "fail", "its advanced event selectors leave them out",
    ),
    "no management events": (
        basic(IncludeManagementEvents=False), "trail-records-kms", "fail", "it records no management events",
    ),
    "data events only": (
        selectors(AdvancedEventSelectors=[{"FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]}, {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        ]}]),
        "trail-records-kms", "fail", "its advanced event selectors leave them out",
    ),
    "rule disabled": (
        lambda p: p.aws.client("events").disable_rule(Name=p.part("ApiCallRule")),
        "rules-enabled", "fail", "The rule ApiCallRule is DISABLED, so what it matches is not seen.",
    ),
    "target removed": (
        lambda p: p.aws.client("events").remove_targets(Rule=p.part("AlertFunctionKmsEventRule"), Ids=["alert-function"]),
        "rules-target", "fail", "The alert function is no target of the rule AlertFunctionKmsEventRule: it has none.",
    ),
    "target changed": (
        lambda p: p.aws.client("events").put_targets(Rule=p.part("ApiCallRule"), Targets=[
            {"Id": "alert-function", "Arn": p.arn("lambda", f"function:{p.function()}"), "Input": "{}"},
        ]),
        "rules-target", "fail", "The rule ApiCallRule changes the events",
    ),
    "permission removed": (
        permission_removed,
        "function-invocable", "fail", "doesn't let EventBridge invoke it for the rule ApiCallRule.",
    ),
    "function throttled": (
        lambda p: p.aws.client("lambda").put_function_concurrency(
            FunctionName=p.function(), ReservedConcurrentExecutions=0
        ),
        "function-ready", "fail", "its reserved concurrency is 0.",
    ),
    "failures dropped": (
        lambda p: p.aws.client("lambda").delete_function_event_invoke_config(
            FunctionName=p.function(), Qualifier="$LATEST"
        ),
        "failures-kept", "fail", "it has no on-failure destination.",
    ),
    "topic under a disabled key": (
        lambda p: customer_key(p, disabled=True), "topics-readable", "fail", "which is Disabled: nothing arrives.",
    ),
    "topic under a customer key": (
        lambda p: customer_key(p, disabled=False),
        "topics-readable", "warn", "whoever disables that key silences the guard.",
    ),
    "alarm's actions off": (
        actions_off(lambda p: p.part("RuleDeadLetterAlarm")),
        "alarms-live", "fail", "The actions of the alarm RuleDeadLetterAlarm are switched off.",
    ),
    "auditors' alarm's actions off": (
        actions_off(lambda _: "kms"), "cis-alarm", "warn", "The actions of the alarm kms are switched off.",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(patient: Patient) -> Inbox:
    """What people are told of tampering while the guard is broken and repaired."""
    return patient.inbox("AlertsTopicArn", detection=["guard-tampered"])


@pytest.mark.parametrize("spot", MENDED)
@pytest.mark.usefixtures("told")
def test_blind_spot_is_named_and_its_command_mends_it(patient: Patient, spot: str) -> None:
    make, check, verdict, words = MENDED[spot]
    make(patient)
    diagnosis = patient.doctor()
    found = diagnosis[check]
    paste(patient, found["fix"][0]["command"])
    after = patient.doctor().not_well()
    # What the trail doesn't record, a metric filter doesn't count.
    idle = {"cis-alarm"} if check.startswith("trail-") else set()
    assert diagnosis.not_well().keys() == {check} | idle, diagnosis.not_well()
    assert found["verdict"] == verdict and words in found["text"]
    assert diagnosis.status == 1 or verdict == "warn"
    assert after == {}


def paste(patient: Patient, command: str) -> None:
    """Run a command as an operator would."""
    words = shlex.split(command)
    assert words[0] == "aws"
    aws = Path(sys.executable).with_name("aws")
    session = patient.aws.person(REPAIRER, "platform-admin")
    env = environment(**patient.aws.environment() | {name.upper(): value for name, value in session.items()})
    run = subprocess.run([aws, *words[1:]], env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"{command}\n{run.stderr}"


def test_whoever_pastes_a_repair_pages_nobody(patient: Patient, told: Inbox) -> None:
    # What comes after all of them.
    patient.aws.client("sqs").purge_queue(QueueUrl=patient.outputs["WatchFailureQueueUrl"])
    told.next(lambda message: message.attributes["event_name"] == "PurgeQueue", timeout=60)
    sns, topic, queue = patient.aws.client("sns"), patient.outputs["AlertsTopicArn"], told.url.rsplit("/", 1)[-1]
    for subscription in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        if subscription["Endpoint"].endswith(queue):
            sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    repairs = [message for message in told.all() if REPAIRER in message.body]
    assert {message.attributes["event_name"] for message in repairs} == {
        "PutTargets",
        "PutFunctionEventInvokeConfig",
        "SetTopicAttributes",
    }
    assert {message.attributes["severity"] for message in repairs} == {"Informational"}, [m.subject for m in repairs]


def test_mended_selectors_keep_what_else_they_select(patient: Patient) -> None:
    basic(ExcludeManagementEventSources=[KMS, "rdsdata.amazonaws.com"])(patient)
    paste(patient, patient.doctor()["trail-records-kms"]["fix"][0]["command"])
    trails = patient.aws.client("cloudtrail")
    (selector,) = trails.get_event_selectors(TrailName="management")["EventSelectors"]
    assert selector["ExcludeManagementEventSources"] == ["rdsdata.amazonaws.com"]
    assert selector["DataResources"] == [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::kept/"]}]
    selectors(EventSelectors=[{"ReadWriteType": "All", "IncludeManagementEvents": True}])(patient)


# ---- Blind spots that CloudFormation puts right: what was changed or deleted past it --------------------------------


def schedule_changed(**changes: Any) -> Callable[[Patient], None]:
    def change(p: Patient) -> None:
        scheduler, name = p.aws.client("scheduler"), p.part("CoverageSchedule")
        found = scheduler.get_schedule(Name=name)
        keep = {key: found[key] for key in ("ScheduleExpression", "FlexibleTimeWindow", "Target", "State")}
        target = {**keep["Target"], **changes.get("Target", {})}
        scheduler.update_schedule(Name=name, **{**keep, **changes, "Target": target})

    return change


def pattern_narrowed(p: Patient) -> None:
    """To one account's calls, which the samples of that account still match."""
    events, name = p.aws.client("events"), p.part("ApiCallRule")
    pattern = json.loads(events.describe_rule(Name=name)["EventPattern"])
    pattern["detail"]["userIdentity"] = {"accountId": [ACCOUNT]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED")


def rule_deleted(p: Patient) -> None:
    events, name = p.aws.client("events"), p.part("AlertFunctionServiceEventRule")
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    events.remove_targets(Rule=name, Ids=[target["Id"] for target in targets])
    events.delete_rule(Name=name)


def variable_changed(logical: str, **changes: str) -> Callable[[Patient], None]:
    def change(p: Patient) -> None:
        functions, name = p.aws.client("lambda"), p.part(logical)
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables | changes})

    return change


def alarm_changed(p: Patient) -> None:
    cloudwatch, name = p.aws.client("cloudwatch"), p.part("AlertErrorAlarm")
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    keep = ["AlarmName", "AlarmActions", "Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods"]
    keep += ["ComparisonOperator", "Dimensions", "TreatMissingData"]
    cloudwatch.put_metric_alarm(**{name: alarm[name] for name in keep}, Threshold=100000)


RESTORED = {
    "schedule deleted": (
        lambda p: p.aws.client("scheduler").delete_schedule(Name=p.part("SweepSchedule")),
        "schedules-live", "The schedule SweepSchedule is gone",
    ),
    "schedule disabled": (
        schedule_changed(State="DISABLED"), "schedules-live", "The schedule CoverageSchedule is DISABLED",
    ),
    "schedule made rare": (
        schedule_changed(ScheduleExpression="rate(365 days)"),
        "schedules-live", "ScheduleExpression is \"rate(365 days)\", and not \"rate(1 hour)\"",
    ),
    "schedule's target changed": (
        schedule_changed(Target={"Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:other"}),
        "schedules-live", "Target.Arn isn't the template's",
    ),
    "schedule's role changed": (
        schedule_changed(Target={"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/other"}),
        "schedules-live", "Target.RoleArn isn't the template's",
    ),
    "pattern narrowed": (
        pattern_narrowed, "rules-match", "The pattern of the rule ApiCallRule isn't the template's: it differs in detail",
    ),
    "rule deleted": (rule_deleted, "rules-enabled", "The rule AlertFunctionServiceEventRule is gone"),
    "function re-pointed": (
        variable_changed("AlertFunction", ALERTS_TOPIC_ARN="arn:aws:sns:eu-west-1:111122223333:nowhere"),
        "function-ready", "nowhere in ALERTS_TOPIC_ARN, and not the stack's",
    ),
    "function made to hold back": (
        variable_changed("AlertFunction", MINIMUM_SEVERITY="Critical"),
        "function-ready", "has Critical in MINIMUM_SEVERITY, and not the stack's Informational.",
    ),
    "function sent elsewhere": (
        variable_changed("WatchFunction", HTTPS_PROXY="http://192.0.2.1"),
        "function-ready", "in HTTPS_PROXY, and not the stack's nothing.",
    ),
    "queue deleted": (
        lambda p: p.aws.client("sqs").delete_queue(QueueUrl=p.outputs["RuleDeadLetterQueueUrl"]),
        "failures-empty", "The queue RuleDeadLetterQueue is gone",
    ),
    "alarm deleted": (
        lambda p: p.aws.client("cloudwatch").delete_alarms(AlarmNames=[p.part("AlertLostAlarm")]),
        "alarms-live", "The alarm AlertLostAlarm is gone.",
    ),
    "alarm made to sleep": (
        alarm_changed, "alarms-live", "The alarm AlertErrorAlarm was changed: Threshold is 100000.0, and not 1.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spot", RESTORED)
def test_blind_spot_is_named_and_a_change_set_restores_the_template(patient: Patient, spot: str) -> None:
    make, check, words = RESTORED[spot]
    make(patient)
    diagnosis = patient.doctor()
    assert diagnosis.not_well({check}).keys() == {check}, diagnosis.not_well({check})
    found = diagnosis[check]
    assert (diagnosis.status, found["verdict"]) == (1, "fail") and words in found["text"], found
    # The queues may hold what other tests left there, and doctor says so as well.
    restoring = [step["command"] for step in found["fix"] if step["command"].startswith("aws cloudformation ")]
    assert len(restoring) == 4, found["fix"]
    for command in restoring:
        paste(patient, command)
    stacks = patient.aws.client("cloudformation")
    stacks.get_waiter("stack_update_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    patient.outputs = local.outputs(stacks)
    assert patient.doctor().not_well(() if check == "failures-empty" else {check}) == {}


def test_stack_of_another_version_is_an_update_to_make(patient: Patient) -> None:
    s3, stacks = patient.aws.client("s3"), patient.aws.client("cloudformation")
    newer = s3.get_object(Bucket="deployed-directly", Key="template")["Body"].read()
    older = json.loads(newer)
    del older["Resources"]["TamperedTrailRulePermission"]
    rule = older["Resources"]["ApiCallRule"]["Properties"]
    rule["EventPattern"] = rule["EventPattern"].replace('"DisableKey", ', "")

    def update(template: bytes) -> None:
        s3.put_object(Bucket="deployed-directly", Key="other", Body=template)
        stacks.update_stack(
            StackName=STACK,
            TemplateURL=f"{patient.aws.endpoint}/deployed-directly/other",
            Parameters=[{"ParameterKey": "Architecture", "UsePreviousValue": True}],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        stacks.get_waiter("stack_update_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    update(json.dumps(older).encode())
    diagnosis = patient.doctor()
    update(newer)
    assert diagnosis.not_well().keys() == {"guard-deployed", "function-invocable"}, diagnosis.not_well()
    found = diagnosis["guard-deployed"]
    assert "it lacks TamperedTrailRulePermission (AWS::Lambda::Permission)" in found["text"]
    assert "ApiCallRule has another EventPattern" in found["text"]
    assert [step["what"] for step in found["fix"]] == ["Update it: deploy the template of this version (make deploy)."]
    assert patient.doctor().not_well() == {}


# ---- Blind spots that take more than a command ----------------------------------------------------------------------


@contextmanager
def topic_deleted(p: Patient) -> Iterator[None]:
    sns, topic = p.aws.client("sns"), p.outputs["AlertsTopicArn"]
    policy = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    sns.delete_topic(TopicArn=topic)
    yield
    sns.create_topic(Name=topic.rsplit(":", 1)[1])
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    p.listen(topic, "people")
    queue = p.arn("sqs", p.part("ProofQueue").rsplit("/", 1)[1])
    tests_alone = {"FilterPolicy": json.dumps({"detection": ["guard-test"]})}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=tests_alone)


def listeners(p: Patient, topic: str) -> list[dict[str, str]]:
    """The subscriptions to a topic but the proof queue's."""
    subscriptions = p.aws.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    return [subscription for subscription in subscriptions if "ProofQueue" not in subscription["Endpoint"]]


@contextmanager
def unsubscribed(p: Patient, topic: str, queue: str, instead: str | None = None) -> Iterator[None]:
    sns, arn = p.aws.client("sns"), p.outputs[topic]
    for subscription in listeners(p, arn):
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    if instead:
        sns.subscribe(TopicArn=arn, Protocol="email", Endpoint=instead)
    yield
    if instead:
        take_away(p, arn, instead)
    p.listen(arn, queue)


def take_away(p: Patient, topic: str, address: str) -> None:
    """A subscription that is still pending: nobody can remove it before it is confirmed."""
    p.aws.confirm(topic, address)
    sns = p.aws.client("sns")
    subscriptions = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    (arn,) = [subscription["SubscriptionArn"] for subscription in subscriptions if subscription["Endpoint"] == address]
    sns.unsubscribe(SubscriptionArn=arn)


@contextmanager
def shut(p: Patient, queue: str) -> Iterator[None]:
    """The queue's policy lets nobody send."""
    sqs, url = p.aws.client("sqs"), p.part(queue)
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


@contextmanager
def self_checks_off(p: Patient) -> Iterator[None]:
    functions, source = p.aws.client("lambda"), p.part("SelfCheckSource")
    functions.update_event_source_mapping(UUID=source, Enabled=False)
    yield
    functions.update_event_source_mapping(UUID=source, Enabled=True)


@contextmanager
def filtered_for_tests(p: Patient) -> Iterator[None]:
    sns, topic = p.aws.client("sns"), p.outputs["AlertsTopicArn"]
    (proof,) = [s for s in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] if "ProofQueue" in s["Endpoint"]]
    change = {"SubscriptionArn": proof["SubscriptionArn"], "AttributeName": "FilterPolicy"}
    sns.set_subscription_attributes(**change, AttributeValue='{"detection": ["none"]}')
    yield
    sns.set_subscription_attributes(**change, AttributeValue='{"detection": ["guard-test"]}')


@contextmanager
def filtered(p: Patient, **policy: Any) -> Iterator[None]:
    """The only subscription to the alerts gets this filter policy."""
    sns = p.aws.client("sns")
    (people,) = listeners(p, p.outputs["AlertsTopicArn"])
    change = {"SubscriptionArn": people["SubscriptionArn"], "AttributeName": "FilterPolicy"}
    sns.set_subscription_attributes(**change, AttributeValue=json.dumps(policy))
    yield
    sns.set_subscription_attributes(**change, AttributeValue="{}")


@contextmanager
def one_more_pending(p: Patient) -> Iterator[None]:
    sns, topic, address = p.aws.client("sns"), p.outputs["AlertsTopicArn"], "late@example.com"
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
    yield
    take_away(p, topic, address)


@contextmanager
def publishing_forbidden(p: Patient) -> Iterator[None]:
    sns, topic = p.aws.client("sns"), p.outputs["FindingsTopicArn"]
    policy = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": topic}
    stricter = json.loads(policy)
    stricter["Statement"].append(deny)
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(stricter))
    yield
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)


@contextmanager
def no_trail(p: Patient) -> Iterator[None]:
    p.aws.client("cloudtrail").delete_trail(Name="management")
    yield
    trails = p.aws.client("cloudtrail")
    trails.create_trail(
        Name="management",
        S3BucketName=f"trail-{ACCOUNT}-{REGION}",
        IsMultiRegionTrail=True,
        CloudWatchLogsLogGroupArn=p.arn("logs", f"log-group:{GROUP}:*"),
        CloudWatchLogsRoleArn=f"arn:aws:iam::{ACCOUNT}:role/trail",
    )
    trails.start_logging(Name="management")


@contextmanager
def event_left_behind(p: Patient) -> Iterator[None]:
    sqs, url = p.aws.client("sqs"), p.outputs["AlertFailureQueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    yield
    sqs.purge_queue(QueueUrl=url)


@contextmanager
def alarm_going_off(p: Patient) -> Iterator[None]:
    cloudwatch, name = p.aws.client("cloudwatch"), p.part("AlertThrottleAlarm")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
    yield
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="test")


@contextmanager
def auditors(p: Patient, pattern: str = PATTERN, action: str | None = "", **alarm: Any) -> Iterator[None]:
    """Another filter or alarm for the auditors; put back afterwards."""
    topic = p.outputs["AlertsTopicArn"]
    auditors_filter(p.aws, pattern)
    p.aws.client("cloudwatch").delete_alarms(AlarmNames=["kms"])
    auditors_alarm(p.aws, topic if action == "" else action, **alarm)
    yield
    auditors_filter(p.aws)
    auditors_alarm(p.aws, topic)


@contextmanager
def log_group_gone(p: Patient) -> Iterator[None]:
    p.aws.client("logs").delete_log_group(logGroupName=GROUP)
    yield
    p.aws.client("logs").create_log_group(logGroupName=GROUP)
    auditors_filter(p.aws)


def unheard_topic(p: Patient) -> str:
    return p.aws.client("sns").create_topic(Name="unheard")["TopicArn"]


# Blind spot, and every check that isn't well then, with its verdict and words.
HEARD = "Nobody is subscribed to the alerts topic."
DEAF = "to which nobody has confirmed a subscription"
NAMED = {
    "topic deleted": (
        topic_deleted,
        {"alerts-heard": ("fail", "is gone, so nothing that the guard publishes arrives"),
         "topics-readable": ("unknown", "there is no such topic"),
         "alarms-live": ("fail", "which doesn't exist"), "cis-alarm": ("warn", "which doesn't exist"),
         "proof-ready": ("unknown", "Whether the proof queue hears the alerts topic isn't known")},
    ),
    "nobody subscribed": (
        lambda p: unsubscribed(p, "AlertsTopicArn", "people"),
        {"alerts-heard": ("fail", HEARD), "alarms-live": ("fail", DEAF), "cis-alarm": ("warn", DEAF)},
    ),
    "subscription never confirmed": (
        lambda p: unsubscribed(p, "AlertsTopicArn", "people", instead="on-call@example.com"),
        {"alerts-heard": ("fail", "pending confirmation is email on-call@example.com"), "alarms-live": ("fail", DEAF),
         "cis-alarm": ("warn", DEAF)},
    ),
    "severe alerts filtered": (
        lambda p: filtered(p, severity=["Low", "Medium"]),
        {"alerts-heard": ("fail", "the filter policies of all 1 confirmed subscriptions keep out everything that is High"),
         "alarms-live": ("fail", "an alarm has no message attributes"),
         "cis-alarm": ("warn", "an alarm has no message attributes")},
    ),
    # What is filtered by attributes hears no alarm.
    "alarms filtered": (
        lambda p: filtered(p, severity=["Critical"]),
        {"alarms-live": ("fail", "every subscription's filter policy keeps it out"),
         "cis-alarm": ("warn", "every subscription's filter policy keeps it out")},
    ),
    "one more subscription pending": (
        one_more_pending, {"alerts-heard": ("warn", f"(sqs arn:aws:sqs:{REGION}:{ACCOUNT}:people); pending confirmation: email late@example.com")},
    ),
    "no machine subscribed": (
        lambda p: unsubscribed(p, "FindingsTopicArn", "machines"),
        {"findings-heard": ("warn", "Nobody is subscribed to the findings topic.")},
    ),
    "publishing forbidden": (
        publishing_forbidden,
        {"findings-heard": ("fail", "The findings topic's policy doesn't let the alert function publish.")},
    ),
    "no trail": (
        no_trail,
        {"trail-logging": ("fail", "No trail covers eu-west-1, so no call to KMS reaches the guard"),
         "trail-records-kms": ("unknown", "there is no trail"), "trail-delivers": ("unknown", "there is none"),
         "cis-alarm": ("warn", "No trail writes to a log group")},
    ),
    "event left behind": (
        event_left_behind,
        {"failures-empty": ("fail", "events that no alert was sent for are in the queue AlertFailureQueue.")},
    ),
    "self-checks off": (
        self_checks_off, {"self-check-follows": ("fail", "SelfCheckSource is Disabl")},
    ),
    "self-check queue shut": (
        lambda p: shut(p, "SelfCheckQueue"),
        {"self-check-follows": ("fail", "The policy of SelfCheckQueue doesn't let the rule StackStatusRule start a self-check.")},
    ),
    "proof queue shut": (
        lambda p: shut(p, "ProofQueue"),
        {"proof-ready": ("warn", "The policy of ProofQueue doesn't let the findings topic deliver to it.")},
    ),
    "tests filtered out": (
        filtered_for_tests, {"proof-ready": ("warn", "subscription to the alerts topic keeps tests out")},
    ),
    "alarm going off": (alarm_going_off, {"alarms-quiet": ("warn", "The alarm AlertThrottleAlarm is going off.")}),
    # Where cloud-audit is content: its words are there.
    "filter that matches nothing": (
        lambda p: auditors(p, "{($.eventSource=kms.amazonaws.com) && ($.eventName=DisableKeys || $.eventName=ScheduleKeyDeletions)}"),
        {"cis-alarm": ("warn", "speaks of KMS and matches neither DisableKey nor ScheduleKeyDeletion")},
    ),
    "filter of refused calls only": (
        lambda p: auditors(p, '{($.eventSource=kms.amazonaws.com) && ($.eventName="*Key*") && ($.errorCode="*Denied*")}'),
        {"cis-alarm": ("warn", "matches neither DisableKey nor ScheduleKeyDeletion")},
    ),
    "filter of one call": (
        lambda p: auditors(p, "{($.eventSource=kms.amazonaws.com) && ($.eventName=DisableKey)}"),
        {"cis-alarm": ("warn", "doesn't match every ScheduleKeyDeletion call")},
    ),
    "filter of one caller": (
        lambda p: auditors(p, PATTERN[:-1] + ' && ($.userIdentity.type = "Root")}'),
        {"cis-alarm": ("warn", "doesn't match every DisableKey call")},
    ),
    "filter of everything": (
        lambda p: auditors(p, "{$.eventSource = kms.amazonaws.com}"),
        {"cis-alarm": ("warn", "also counts calls that harm no key")},
    ),
    "alarm on another metric": (
        lambda p: auditors(p, MetricName="Other"),
        {"cis-alarm": ("warn", "There is no alarm on the metric of the filter kms.")},
    ),
    "alarm without action": (
        lambda p: auditors(p, action=None), {"cis-alarm": ("warn", "The alarm kms has no action")},
    ),
    "alarm that nobody hears": (
        lambda p: auditors(p, action=unheard_topic(p)), {"cis-alarm": ("warn", DEAF)},
    ),
    "alarm that waits for more": (
        lambda p: auditors(p, Threshold=5), {"cis-alarm": ("warn", "it waits for GreaterThanOrEqualToThreshold 5")},
    ),
    "log group gone": (log_group_gone, {"cis-alarm": ("warn", "doesn't exist in eu-west-1")}),
}  # fmt: skip


@pytest.mark.parametrize("spot", NAMED)
def test_blind_spot_is_named(patient: Patient, spot: str) -> None:
    make, expected = NAMED[spot]
    with make(patient):
        diagnosis = patient.doctor()
    found = diagnosis.not_well(expected)
    assert found.keys() == expected.keys(), found
    for check, (verdict, words) in expected.items():
        found = diagnosis[check]
        assert found["verdict"] == verdict and words in found["text"], found
        assert verdict == "unknown" or found["fix"], f"{check} says nothing about how to mend it"
    if any(verdict == "fail" for verdict, _ in expected.values()):
        assert diagnosis.status == 1
    assert patient.doctor().not_well() == {}


def test_trail_that_is_missing_is_created_by_the_commands(patient: Patient) -> None:
    with no_trail(patient):
        fix = patient.doctor()["trail-logging"]["fix"]
        for step in fix:
            paste(patient, step["command"])
        assert len(fix) == 4
        trails, s3 = patient.aws.client("cloudtrail"), patient.aws.client("s3")
        (trail,) = trails.describe_trails()["trailList"]
        assert patient.doctor()["trail-logging"]["verdict"] == "pass"
        policy = json.loads(s3.get_bucket_policy(Bucket=trail["S3BucketName"])["Policy"])
        assert {statement["Condition"]["StringEquals"]["aws:SourceArn"] for statement in policy["Statement"]} == {trail["TrailARN"]}
        trails.delete_trail(Name="management")


@pytest.fixture
def tidy(patient: Patient) -> Patient:
    """What the tests before left in the queues is taken away."""
    for output in ("AlertFailureQueueUrl", "RuleDeadLetterQueueUrl"):
        patient.aws.client("sqs").purge_queue(QueueUrl=patient.outputs[output])
    cloudwatch = patient.aws.client("cloudwatch")
    for alarm in cloudwatch.describe_alarms()["MetricAlarms"]:
        cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="OK", StateReason="tidied")
    return patient


# ---- Where it looks -------------------------------------------------------------------------------------------------


def test_region_without_the_guard_fails(patient: Patient) -> None:
    diagnosis = patient.doctor(region="eu-central-1")
    assert diagnosis.status == 1
    assert "There is no stack kms-key-guard in eu-central-1" in diagnosis["guard-deployed"]["text"]


def test_all_regions_come_in_one_table_and_unguarded_ones_fail_if_they_hold_customer_keys(tidy: Patient) -> None:
    def look() -> tuple[int, dict[str, list[str]], str]:
        command = [KEYGUARD, "doctor", "--region", "all"]
        env = environment(**tidy.aws.environment(role="keyguard-doctor"))
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        table = run.stdout.split("\n\n")[0].splitlines()
        assert table[0].split() == ["REGION", "PASS", "WARN", "UNKNOWN", "FAIL", "PROBLEMS"], run.stderr
        return run.returncode, {line.split()[0]: line.split(maxsplit=5)[1:] for line in table[1:]}, run.stdout

    status, rows, text = look()
    assert status == 0, text
    assert len(rows) >= 17 and list(rows) == sorted(rows)
    assert rows[REGION][1:4] == ["0", "0", "0"]
    assert rows["us-east-1"] == ["1", "1", "0", "0", "no guard, holds no customer key"]
    assert "\x1b" not in text

    kms = tidy.aws.client("kms", region="us-east-1")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    status, rows, text = look()
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert (status, rows["us-east-1"]) == (1, ["0", "0", "0", "2", "no guard, holds customer keys"])
    assert f"The customer key {key} in us-east-1 is unguarded." in text and "make deploy REGION=us-east-1" in text


def test_report_fits_a_terminal_of_80_columns(tidy: Patient) -> None:
    columns, lines = 80, []
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(**tidy.aws.environment(role="keyguard-doctor"), NO_COLOR="1", TERM="xterm")
    process = subprocess.Popen([KEYGUARD, "doctor"], env=env, stdin=subprocess.DEVNULL, stdout=its, stderr=subprocess.PIPE)
    os.close(its)
    try:
        with os.fdopen(ours, errors="replace") as terminal:
            try:
                for line in terminal:
                    lines.append(line.rstrip())
            except OSError:
                pass  # Linux's way to say that nobody writes there any more.
    finally:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert max(map(len, lines)) <= columns and len(lines) > 18 + 2
    text = " ".join(" ".join(lines).split())
    assert f"The alerts topic has 1 confirmed subscription (sqs arn:aws:sqs:{REGION}:{ACCOUNT}:people)." in text
    assert "The trail management" in text and "rules have the template's patterns." in text
    (STATE / "doctor-80.txt").write_text("\n".join(lines) + "\n")


def test_another_account_is_looked_at_through_a_role(tidy: Patient) -> None:
    other = "444455556666"
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{other}:root"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    tidy.aws.client("iam").create_role(RoleName="security-audit", AssumeRolePolicyDocument=document)
    role = f"arn:aws:iam::{ACCOUNT}:role/security-audit"
    diagnosis = tidy.doctor("--role-arn", role, account=other)
    assert (diagnosis.status, diagnosis.regions[0]["account"]) == (0, ACCOUNT), diagnosis.not_well()


def test_role_that_may_not_be_assumed_is_one_error(patient: Patient) -> None:
    command = [KEYGUARD, "doctor", "--role-arn", f"arn:aws:iam::{ACCOUNT}:role/there-is-none"]
    env = environment(**patient.aws.environment("444455556666"))
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("keyguard: the role can't be assumed: ") and run.stderr.count("\n") == 1


def test_wrong_options_are_refused(patient: Patient) -> None:
    for options in (["--region", "europe"], ["--stack-name", "a b"], ["--role-arn", "me"], ["--timeout", "5"]):
        run = subprocess.run(
            [KEYGUARD, "doctor", *options], env=environment(**patient.aws.environment()), capture_output=True, text=True
        )
        assert (run.returncode, run.stdout) == (2, "")
        assert options[0] in run.stderr


# ---- A release ------------------------------------------------------------------------------------------------------


def deployed(patient: Patient, code: dict[str, bytes]) -> None:
    functions = patient.aws.client("lambda")
    for logical, archive in code.items():
        functions.update_function_code(FunctionName=patient.part(logical), ZipFile=archive)


def test_code_is_told_from_the_release_and_code_that_can_not_start_fails(tidy: Patient, tmp_path: Path) -> None:
    programs = {logical: (BUILD / logical / "bootstrap").read_bytes() for logical in FUNCTIONS}
    files = release.summed(release.guard_files(ROOT, SOURCE, ARCHITECTURE, programs))
    for name, (content, _) in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    code = {logical: files[name][0] for logical, name in FUNCTIONS.items()}

    before = tidy.doctor("--release", str(tmp_path))
    assert before.status == 1
    assert "AlertFunction (" in before["functions-released"]["text"] and "doesn't run version 1.2.3" in before["functions-released"]["text"]

    deployed(tidy, code)
    try:
        assert tidy.doctor("--release", str(tmp_path))["functions-released"] == {
            "id": "functions-released",
            "what": "The functions run the code of the release.",
            "verdict": "pass",
            "text": "AlertFunction is version 1.2.3 (commit 0123abcd) as released. "
            "WatchFunction is version 1.2.3 (commit 0123abcd) as released.",
            "fix": [],
        }
        other = 183 if ARCHITECTURE == "x86_64" else 62
        foreign = programs["AlertFunction"][:18] + other.to_bytes(2, "little") + programs["AlertFunction"][20:]
        deployed(tidy, {"AlertFunction": release.zipped({"bootstrap": (foreign, 0o755)}, 0)})
        spoilt = tidy.doctor("--release", str(tmp_path), "--prove", "--timeout", "10")
        assert (spoilt.status, spoilt["functions-released"]["verdict"], spoilt["prove-function"]["verdict"]) == (1, "fail", "fail")
    finally:
        deployed(tidy, code)

    (tmp_path / "functions" / "alert.zip").unlink()
    command = [KEYGUARD, "doctor", "--region", REGION, "--release", tmp_path]
    run = subprocess.run(command, env=environment(**tidy.aws.environment()), capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"keyguard: functions/alert.zip is missing in {tmp_path}\n"


# ---- The proof ------------------------------------------------------------------------------------------------------


def test_proving_twice_is_two_informational_messages_in_all(tidy: Patient) -> None:
    people = tidy.inbox("AlertsTopicArn", detection=["guard-test", "guard-tampered", "guard-blind"])
    # What an earlier test changed may still be checked meanwhile.
    proofs = []
    for _ in range(2):
        diagnosis = tidy.doctor("--prove")
        assert diagnosis.status == 0, diagnosis.regions
        legs = diagnosis.regions[0]["test"]["checks"]
        assert [leg["id"] for leg in legs] == ["prove-bus", "prove-function", "prove-alerts", "prove-findings"]
        assert {leg["verdict"] for leg in legs} == {"pass"}
        assert "subscribers of its topics get it too" in diagnosis.stderr
        proofs.append(diagnosis.regions[0]["test"]["id"])
    about_tests = [people.next(lambda message, id=id: id in message.body) for id in proofs]
    for mail in about_tests:
        assert "TEST" in mail.subject and mail.attributes["severity"] == "Informational"
    rest = [m.subject for m in people.all() if m.attributes["detection"] == "guard-test" or "ProofQueue" in m.body]
    assert rest == []
    queue = tidy.aws.client("sqs").get_queue_attributes(
        QueueUrl=tidy.part("ProofQueue"), AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    assert queue["ApproximateNumberOfMessages"] == "0", "each took out what it had sent"


def test_without_the_proof_queue_no_test_is_sent(patient: Patient) -> None:
    people = patient.inbox("AlertsTopicArn", detection=["guard-test"])
    url = patient.part("ProofQueue")
    sqs = patient.aws.client("sqs")
    kept = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    sqs.delete_queue(QueueUrl=url)
    diagnosis = patient.doctor("--prove", "--timeout", "5")
    sqs.create_queue(QueueName=url.rsplit("/", 1)[1], Attributes={"Policy": kept})
    assert diagnosis.status != 0 and diagnosis.regions[0]["test"]["checks"] == []
    assert "no test was sent: the proof queue is gone" in diagnosis.stderr
    assert diagnosis["proof-ready"]["verdict"] == "warn" and "The queue ProofQueue is gone" in diagnosis["proof-ready"]["text"]
    assert people.all() == []


def test_proof_names_the_rule_that_swallowed_it(tidy: Patient) -> None:
    events, rule = tidy.aws.client("events"), tidy.part("AlertFunctionGuardTestRule")
    events.disable_rule(Name=rule)
    diagnosis = tidy.doctor("--prove", "--timeout", "5")
    events.enable_rule(Name=rule)
    assert (diagnosis.status, diagnosis["prove-bus"]["verdict"]) == (1, "pass")
    assert "the rule didn't match it or didn't deliver it" in diagnosis["prove-function"]["text"]
    assert diagnosis["prove-alerts"]["verdict"] == "unknown"


def test_proof_names_the_topic_that_swallowed_it(patient: Patient) -> None:
    # Nothing reads what the test's queue gets if the topic's deliveries go nowhere: an encrypted topic without its key.
    customer_key(patient, disabled=True)
    diagnosis = patient.doctor("--prove", "--timeout", "8")
    paste(patient, diagnosis["topics-readable"]["fix"][0]["command"])
    assert diagnosis.status == 1


def test_proof_can_be_interrupted(patient: Patient) -> None:
    events, rule = patient.aws.client("events"), patient.part("AlertFunctionGuardTestRule")
    events.disable_rule(Name=rule)
    command = [KEYGUARD, "doctor", "--prove", "--timeout", "600"]
    process = subprocess.Popen(
        command, env=environment(**patient.aws.environment()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        # It is what doctor says once it listens for the signal.
        assert "sending a test through" in next(line for line in process.stderr if "sending" in line)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        events.enable_rule(Name=rule)
    assert process.returncode == 130 and "interrupted" in errors
