"""On the local AWS an organization's trail reaches its members, and a trail's log group feeds metric filters."""

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import Inbox, LocalAws

HOME, ELSEWHERE = "eu-central-1", "eu-west-1"
CIS = "{($.eventSource=kms.amazonaws.com) && (($.eventName=DisableKey) || ($.eventName=ScheduleKeyDeletion))}"


def account_id() -> str:
    return f"{uuid.uuid4().int % 10**12:012}"


def watch(aws: LocalAws, account: str, region: str) -> Inbox:
    events, sqs = aws.client("events", account, region), aws.client("sqs", account, region)
    inbox = Inbox(sqs, sqs.create_queue(QueueName="q")["QueueUrl"])
    events.put_rule(Name="kms", EventPattern='{"source": ["aws.kms"]}')
    events.put_targets(Rule="kms", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{region}:{account}:q"}])
    return inbox


@pytest.fixture
def trail(bare: LocalAws) -> tuple[str, str, str]:
    """Management account, member account, and the ARN of the organization's trail, which logs."""
    management, member = account_id(), account_id()
    bare.organization(management, member)
    trails = bare.client("cloudtrail", management, HOME)
    created = trails.create_trail(
        Name="org", S3BucketName="any", IsMultiRegionTrail=True, IsOrganizationTrail=True
    )
    trails.start_logging(Name="org")
    return management, member, created["TrailARN"]


def test_a_member_sees_the_organizations_trail_in_every_region(bare: LocalAws, trail: tuple[str, str, str]) -> None:
    management, member, arn = trail
    trails = bare.client("cloudtrail", member, ELSEWHERE)
    (seen,) = trails.describe_trails()["trailList"]
    assert (seen["TrailARN"], seen["HomeRegion"], seen["IsOrganizationTrail"]) == (arn, HOME, True)
    assert trails.describe_trails(includeShadowTrails=False)["trailList"] == []
    assert [found["Name"] for found in trails.describe_trails(trailNameList=[arn])["trailList"]] == ["org"]
    assert trails.get_trail(Name=arn)["Trail"]["HomeRegion"] == HOME
    assert trails.get_trail_status(Name=arn)["IsLogging"] is True
    assert trails.get_event_selectors(TrailName=arn)["EventSelectors"][0]["IncludeManagementEvents"] is True
    for call in (
        lambda: trails.get_trail_status(Name="org"),
        lambda: trails.stop_logging(Name=arn),
        lambda: bare.client("cloudtrail", account_id(), ELSEWHERE).get_trail_status(Name=arn),
    ):
        with pytest.raises(ClientError, match="TrailNotFound"):
            call()


def test_a_members_calls_are_delivered_while_the_organizations_trail_logs(
    bare: LocalAws, trail: tuple[str, str, str]
) -> None:
    management, member, arn = trail
    inbox = watch(bare, member, ELSEWHERE)
    kms = bare.client("kms", member, ELSEWHERE)
    kms.create_key()
    assert json.loads(inbox.next().body)["account"] == member
    owner = bare.client("cloudtrail", management, HOME)
    excluded = [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]
    owner.put_event_selectors(TrailName="org", EventSelectors=excluded)
    kms.create_key()
    seen = bare.client("cloudtrail", member, ELSEWHERE).get_event_selectors(TrailName=arn)
    assert seen["EventSelectors"][0]["ExcludeManagementEventSources"] == ["kms.amazonaws.com"]
    owner.put_event_selectors(TrailName="org", EventSelectors=[{"ReadWriteType": "All"}])
    owner.stop_logging(Name="org")
    kms.create_key()
    assert inbox.all() == []


def test_a_member_creates_no_trail_for_the_organization(bare: LocalAws, trail: tuple[str, str, str]) -> None:
    trails = bare.client("cloudtrail", trail[1], HOME)
    with pytest.raises(ClientError, match="NotOrganizationMasterAccount"):
        trails.create_trail(Name="own", S3BucketName="any", IsOrganizationTrail=True)


def test_a_shadow_of_a_multi_region_trail_is_known_by_its_arn(bare: LocalAws) -> None:
    account = account_id()
    bare.start_trail(account, HOME)
    trails = bare.client("cloudtrail", account, ELSEWHERE)
    (seen,) = trails.describe_trails()["trailList"]
    assert seen["HomeRegion"] == HOME
    assert trails.get_trail_status(Name=seen["TrailARN"])["IsLogging"] is True
    with pytest.raises(ClientError, match="TrailNotFound"):
        trails.get_trail_status(Name=seen["Name"])


def test_a_trails_log_group_feeds_the_auditors_metric_filter_and_alarm(bare: LocalAws) -> None:
    account = account_id()
    logs, group = bare.client("logs", account, HOME), f"arn:aws:logs:{HOME}:{account}:log-group:/trail:*"
    logs.create_log_group(logGroupName="/trail")
    metric = {"metricName": "KeyLoss", "metricNamespace": "CIS", "metricValue": "1"}
    logs.put_metric_filter(
        logGroupName="/trail", filterName="cis", filterPattern=CIS, metricTransformations=[metric]
    )
    template = {
        "Resources": {
            "Trail": {
                "Type": "AWS::CloudTrail::Trail",
                "Properties": {
                    "TrailName": "stacked",
                    "S3BucketName": "any",
                    "IsLogging": True,
                    "IsMultiRegionTrail": True,
                    "CloudWatchLogsLogGroupArn": group,
                    "CloudWatchLogsRoleArn": f"arn:aws:iam::{account}:role/trail",
                },
            }
        }
    }
    stacks = bare.client("cloudformation", account, HOME)
    stacks.create_stack(StackName="trail", TemplateBody=json.dumps(template))
    waiting = {"StackName": "trail", "WaiterConfig": {"Delay": 1, "MaxAttempts": 20}}
    stacks.get_waiter("stack_create_complete").wait(**waiting)
    bare.client("cloudwatch", account, HOME).put_metric_alarm(
        AlarmName="cis",
        Namespace="CIS",
        MetricName="KeyLoss",
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )
    kms = bare.client("kms", account, ELSEWHERE)
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    assert bare.evaluate_alarms(account, HOME) == {"cis": "OK"}
    kms.disable_key(KeyId=key)
    assert bare.evaluate_alarms(account, HOME) == {"cis": "ALARM"}
    found = logs.filter_log_events(logGroupName="/trail", filterPattern=CIS)["events"]
    assert [json.loads(event["message"])["eventName"] for event in found] == ["DisableKey"]
    stacks.delete_stack(StackName="trail")
    stacks.get_waiter("stack_delete_complete").wait(**waiting)
    assert bare.client("cloudtrail", account, HOME).describe_trails()["trailList"] == []


ROOT = '{ $.userIdentity.type = "Root" && $.userIdentity.invokedBy NOT EXISTS && $.eventType != "AwsServiceEvent" }'


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        (CIS, [1]),
        ('{ $.eventName = "Disable*" }', [1, 3]),
        ('{ $.eventName != "DisableKey" }', [2, 3]),
        (ROOT, [1]),
        ("{ $.error IS NULL }", [2]),
        ("{ $.count >= 5 && $.list[1] = b }", [3]),
        ("{ $.flag IS TRUE }", [3]),
        ("DisableKey", [1]),
    ],
)
def test_metric_filter_patterns(bare: LocalAws, pattern: str, matched: list[int]) -> None:
    kms = {"eventSource": "kms.amazonaws.com", "eventType": "AwsApiCall"}
    messages: list[dict[str, Any]] = [
        {**kms, "eventName": "DisableKey", "userIdentity": {"type": "Root"}},
        {**kms, "eventName": "CreateKey", "userIdentity": {"type": "Root", "invokedBy": "x"}, "error": None},
        {"eventName": "DisableRule", "count": 5, "list": ["a", "b"], "flag": True},
        {},
    ]
    answer = bare.client("logs").test_metric_filter(
        filterPattern=pattern, logEventMessages=[json.dumps(message) for message in messages]
    )
    assert [match["eventNumber"] for match in answer["matches"]] == matched


@pytest.mark.parametrize("pattern", ["{ $.a = }", "{ a = b }", "{ ($.a = b }", "{ $.a ~ b }", "{ $.a IS MAYBE }"])
def test_metric_filter_patterns_that_are_refused(bare: LocalAws, pattern: str) -> None:
    with pytest.raises(ClientError, match="InvalidParameter"):
        bare.client("logs").test_metric_filter(filterPattern=pattern, logEventMessages=["{}"])


def test_a_rule_writes_to_a_log_group(bare: LocalAws) -> None:
    account = account_id()
    logs, events = bare.client("logs", account, HOME), bare.client("events", account, HOME)
    logs.create_log_group(logGroupName="/aws/events/own")
    events.put_rule(Name="own", EventPattern='{"source": ["own"]}')
    group = f"arn:aws:logs:{HOME}:{account}:log-group:/aws/events/own"
    events.put_targets(Rule="own", Targets=[{"Id": "logs", "Arn": group}])
    events.put_events(Entries=[{"Source": "own", "DetailType": "t", "Detail": '{"a": 1}'}])
    (line,) = logs.filter_log_events(logGroupName="/aws/events/own")["events"]
    assert json.loads(line["message"])["detail"] == {"a": 1}
