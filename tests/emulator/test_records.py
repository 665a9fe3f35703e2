"""The local AWS records calls to any service as CloudTrail does, and delivers them to EventBridge."""

import io
import json
import uuid
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import Inbox, LocalAws

REGION = "eu-central-1"


class Account:
    """A fresh account with a trail, and a queue that hears every call of a service."""

    def __init__(self, aws: LocalAws, logged: bool = True) -> None:
        self.aws, self.id = aws, f"{uuid.uuid4().int % 10**12:012}"
        if logged:
            aws.start_trail(self.id, REGION)

    def client(self, service: str, region: str = REGION) -> Any:
        return self.aws.client(service, self.id, region)

    def watch(self, source: str, region: str = REGION) -> Inbox:
        sqs, events, name = self.client("sqs", region), self.client("events", region), f"watch-{uuid.uuid4()}"
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))
        events.put_targets(Rule=name, Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{region}:{self.id}:{name}"}])
        inbox = Inbox(sqs, url)
        inbox.all()  # a rule sees its own PutTargets
        return inbox


@pytest.fixture
def account(bare: LocalAws) -> Account:
    return Account(bare)


def record(inbox: Inbox, event_name: str) -> dict[str, Any]:
    envelope = json.loads(inbox.next(lambda message: f'"eventName": "{event_name}"' in message.body).body)
    assert envelope["detail-type"] == "AWS API Call via CloudTrail"
    assert envelope["source"] == "aws." + envelope["detail"]["eventSource"].removesuffix(".amazonaws.com")
    return envelope["detail"]


def test_calls_of_eventbridge(account: Account) -> None:
    inbox, events = account.watch("aws.events"), account.client("events")
    events.put_rule(Name="guard", EventPattern='{"source": ["aws.kms"]}')
    events.put_targets(Rule="guard", Targets=[{"Id": "function", "Arn": f"arn:aws:sqs:{REGION}:{account.id}:q"}])
    events.disable_rule(Name="guard")
    events.remove_targets(Rule="guard", EventBusName="default", Ids=["function"])
    events.delete_rule(Name="guard")
    assert record(inbox, "PutRule")["requestParameters"]["eventPattern"] == '{"source": ["aws.kms"]}'
    targets = record(inbox, "PutTargets")
    (target,) = targets["requestParameters"]["targets"]
    assert target == {"id": "function", "arn": f"arn:aws:sqs:{REGION}:{account.id}:q"}
    assert targets["responseElements"] == {"failedEntryCount": 0, "failedEntries": []}
    assert record(inbox, "DisableRule")["requestParameters"] == {"name": "guard"}
    removed = record(inbox, "RemoveTargets")["requestParameters"]
    assert removed == {"rule": "guard", "eventBusName": "default", "ids": ["function"]}
    deleted = record(inbox, "DeleteRule")
    assert (deleted["requestParameters"], deleted["responseElements"]) == ({"name": "guard"}, None)
    assert (deleted["userIdentity"]["type"], deleted["readOnly"], deleted["awsRegion"]) == ("Root", False, REGION)
    assert deleted["recipientAccountId"] == account.id
    assert "resources" not in deleted


def test_calls_of_lambda_carry_their_version(account: Account) -> None:
    role = account.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    inbox, functions = account.watch("aws.lambda"), account.client("lambda")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
    functions.create_function(
        FunctionName="guard",
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=role,
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"SECRET": "hidden"}},
    )
    functions.update_function_configuration(FunctionName="guard", Timeout=10)
    functions.update_function_code(FunctionName="guard", ZipFile=code.getvalue())
    functions.add_permission(
        FunctionName="guard", StatementId="rule", Action="lambda:InvokeFunction", Principal="events.amazonaws.com"
    )
    functions.remove_permission(FunctionName="guard", StatementId="rule")
    functions.put_function_concurrency(FunctionName="guard", ReservedConcurrentExecutions=0)
    functions.delete_function_concurrency(FunctionName="guard")
    functions.put_function_event_invoke_config(FunctionName="guard", MaximumRetryAttempts=0)
    functions.delete_function(FunctionName="guard")
    created = record(inbox, "CreateFunction20150331")
    assert "hidden" not in json.dumps(created)
    assert created["requestParameters"]["role"] == role
    assert created["responseElements"]["functionName"] == "guard"
    assert record(inbox, "UpdateFunctionConfiguration20150331v2")["requestParameters"]["timeout"] == 10
    assert record(inbox, "UpdateFunctionCode20150331v2")["requestParameters"] == {"functionName": "guard"}
    assert record(inbox, "AddPermission20150331v2")["requestParameters"]["principal"] == "events.amazonaws.com"
    removed = record(inbox, "RemovePermission20150331v2")["requestParameters"]
    assert removed == {"functionName": "guard", "statementId": "rule"}
    throttled = record(inbox, "PutFunctionConcurrency20171031")["requestParameters"]
    assert throttled == {"functionName": "guard", "reservedConcurrentExecutions": 0}
    assert record(inbox, "DeleteFunctionConcurrency20171031")["requestParameters"] == {"functionName": "guard"}
    assert record(inbox, "PutFunctionEventInvokeConfig")["requestParameters"]["maximumRetryAttempts"] == 0
    assert record(inbox, "DeleteFunction20150331")["requestParameters"] == {"functionName": "guard"}


def test_calls_of_sns_and_sqs(account: Account) -> None:
    topics, queues = account.watch("aws.sns"), account.watch("aws.sqs")
    sns, sqs = account.client("sns"), account.client("sqs")
    topic = sns.create_topic(Name="alerts", Tags=[{"Key": "team", "Value": "security"}])["TopicArn"]
    url = sqs.create_queue(QueueName="failures")["QueueUrl"]
    subscription = sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:{REGION}:{account.id}:failures",
        Attributes={"RawMessageDelivery": "true"},
    )["SubscriptionArn"]
    sns.publish(TopicArn=topic, Message="not a management event")
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue="{}")
    sns.unsubscribe(SubscriptionArn=subscription)
    sns.delete_topic(TopicArn=topic)
    sqs.delete_queue(QueueUrl=url)
    created = record(topics, "CreateTopic")
    assert created["requestParameters"] == {"name": "alerts", "tags": [{"key": "team", "value": "security"}]}
    assert created["responseElements"] == {"topicArn": topic}
    subscribed = record(topics, "Subscribe")
    assert subscribed["requestParameters"]["attributes"] == {"RawMessageDelivery": "true"}
    assert subscribed["responseElements"] == {"subscriptionArn": subscription}
    assert record(topics, "SetTopicAttributes")["requestParameters"]["attributeName"] == "Policy"
    assert record(topics, "Unsubscribe")["requestParameters"] == {"subscriptionArn": subscription}
    deleted = record(topics, "DeleteTopic")
    assert (deleted["requestParameters"], deleted["responseElements"]) == ({"topicArn": topic}, None)
    assert record(queues, "DeleteQueue")["requestParameters"] == {"queueUrl": url}
    assert topics.all() == []


def test_calls_of_cloudwatch_logs_and_scheduler(account: Account) -> None:
    monitoring, logs = account.client("cloudwatch"), account.client("logs")
    alarms, groups, schedules = (account.watch(f"aws.{name}") for name in ("monitoring", "logs", "scheduler"))
    monitoring.put_metric_alarm(
        AlarmName="failures",
        MetricName="m",
        Namespace="n",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Statistic="Sum",
    )
    monitoring.disable_alarm_actions(AlarmNames=["failures"])
    monitoring.delete_alarms(AlarmNames=["failures"])
    logs.create_log_group(logGroupName="/guard")
    logs.delete_log_group(logGroupName="/guard")
    scheduler = account.client("scheduler")
    target = {"Arn": f"arn:aws:sqs:{REGION}:{account.id}:q", "RoleArn": f"arn:aws:iam::{account.id}:role/r"}
    schedule = {"ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}
    scheduler.create_schedule(Name="daily", **schedule)
    scheduler.update_schedule(Name="daily", State="DISABLED", **schedule)
    scheduler.delete_schedule(Name="daily")
    assert record(alarms, "PutMetricAlarm")["requestParameters"]["alarmName"] == "failures"
    assert record(alarms, "DisableAlarmActions")["requestParameters"] == {"alarmNames": ["failures"]}
    assert record(alarms, "DeleteAlarms")["requestParameters"] == {"alarmNames": ["failures"]}
    assert record(groups, "DeleteLogGroup")["requestParameters"] == {"logGroupName": "/guard"}
    assert record(schedules, "CreateSchedule")["requestParameters"]["target"]["arn"] == target["Arn"]
    assert record(schedules, "UpdateSchedule")["requestParameters"]["state"] == "DISABLED"
    assert record(schedules, "DeleteSchedule")["requestParameters"]["name"] == "daily"


def test_iams_calls_are_recorded_in_us_east_1(account: Account) -> None:
    there, here = account.watch("aws.iam", "us-east-1"), account.watch("aws.iam")
    iam = account.client("iam")
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument="{}")
    iam.delete_role(RoleName="reader")
    deleted = record(there, "DeleteRole")
    assert (deleted["awsRegion"], deleted["requestParameters"]) == ("us-east-1", {"roleName": "reader"})
    assert here.all() == []


@pytest.mark.parametrize(
    ("name", "switch_off", "parameters"),
    [
        ("StopLogging", lambda trails: trails.stop_logging(Name="management"), {"name": "management"}),
        ("DeleteTrail", lambda trails: trails.delete_trail(Name="management"), {"name": "management"}),
        (
            "PutEventSelectors",
            lambda trails: trails.put_event_selectors(
                TrailName="management", EventSelectors=[{"IncludeManagementEvents": False, "ReadWriteType": "All"}]
            ),
            {
                "trailName": "management",
                "eventSelectors": [{"includeManagementEvents": False, "readWriteType": "All"}],
            },
        ),
        (
            "PutEventSelectors",
            lambda trails: trails.put_event_selectors(
                TrailName="management",
                AdvancedEventSelectors=[{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]}]}],
            ),
            {
                "trailName": "management",
                "advancedEventSelectors": [{"fieldSelectors": [{"field": "eventCategory", "equals": ["Data"]}]}],
            },
        ),
    ],
)
def test_the_call_that_switches_the_trail_off_is_its_last(
    account: Account, name: str, switch_off: Any, parameters: dict[str, Any]
) -> None:
    inbox, trails = account.watch("aws.cloudtrail"), account.client("cloudtrail")
    switch_off(trails)
    account.client("kms").create_key()
    trails.create_trail(Name="unlogged", S3BucketName="any")
    assert record(inbox, name)["requestParameters"] == parameters
    assert inbox.all() == []


def test_a_failed_call_carries_its_error_whatever_the_protocol(account: Account) -> None:
    topic, target = f"arn:aws:sns:{REGION}:{account.id}:none", {"Id": "1", "Arn": "arn:aws:sqs:a:b:c"}
    policy = {"AttributeName": "Policy", "AttributeValue": "{}"}
    alarm = {"AlarmName": "none", "StateValue": "OK", "StateReason": "r"}
    calls = {
        "events": ("PutTargets", lambda c: c.put_targets(Rule="none", Targets=[target])),
        "lambda": ("DeleteFunction20150331", lambda c: c.delete_function(FunctionName="none")),
        "sns": ("SetTopicAttributes", lambda c: c.set_topic_attributes(TopicArn=topic, **policy)),
        "cloudtrail": ("StopLogging", lambda c: c.stop_logging(Name="none")),
        "monitoring": ("SetAlarmState", lambda c: c.set_alarm_state(**alarm)),
    }
    for service, (name, call) in calls.items():
        inbox = account.watch(f"aws.{service}")
        with pytest.raises(ClientError) as error:
            call(account.client("cloudwatch" if service == "monitoring" else service))
        failed = record(inbox, name)
        wanted = error.value.response["Error"]
        assert (failed["errorCode"], failed["errorMessage"]) == (wanted["Code"], wanted["Message"]), service
        assert failed["responseElements"] is None


def test_reads_stay_in_the_event_history(account: Account) -> None:
    inbox = account.watch("aws.events")
    account.client("events").list_rules()
    account.client("events").put_rule(Name="fence", EventPattern='{"source": ["x"]}')
    assert record(inbox, "PutRule")
    assert inbox.all() == []
    names = [event["EventName"] for event in account.client("cloudtrail").lookup_events()["Events"]]
    assert "ListRules" in names


def test_without_a_trail_no_call_is_delivered(bare: LocalAws) -> None:
    account = Account(bare, logged=False)
    inbox = account.watch("aws.sns")
    account.client("sns").create_topic(Name="t")
    assert inbox.all() == []


def test_a_key_that_leaves_its_stack_is_scheduled_for_deletion_by_cloudformation(account: Account) -> None:
    inbox, stacks = account.watch("aws.kms"), account.client("cloudformation")
    waiting = {"StackName": "keys", "WaiterConfig": {"Delay": 1, "MaxAttempts": 20}}
    key = {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {}, "PendingWindowInDays": 7}}
    stacks.create_stack(StackName="keys", TemplateBody=json.dumps({"Resources": {"Key": key}}))
    stacks.get_waiter("stack_create_complete").wait(**waiting)
    (listed,) = account.client("kms").list_keys()["Keys"]
    stacks.delete_stack(StackName="keys")
    stacks.get_waiter("stack_delete_complete").wait(**waiting)
    scheduled = record(inbox, "ScheduleKeyDeletion")
    assert scheduled["requestParameters"] == {"keyId": listed["KeyId"], "pendingWindowInDays": 7}
    assert scheduled["responseElements"]["keyId"] == listed["KeyArn"]
    assert scheduled["responseElements"]["keyState"] == "PendingDeletion"
    assert [resource["ARN"] for resource in scheduled["resources"]] == [listed["KeyArn"]]
    assert scheduled["userIdentity"]["invokedBy"] == "cloudformation.amazonaws.com"


STACK = {
    "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "stacked"}},
    "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "stacked"}},
    "Subscription": {
        "Type": "AWS::SNS::Subscription",
        "Properties": {
            "TopicArn": {"Ref": "Topic"},
            "Protocol": "sqs",
            "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]},
        },
    },
    "Rule": {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "Name": "stacked",
            "EventPattern": {"source": ["aws.kms"]},
            "Targets": [{"Id": "q", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}],
        },
    },
}


def test_what_cloudformation_does_says_so(account: Account) -> None:
    topics, rules = account.watch("aws.sns"), account.watch("aws.events")
    person = account.aws.person("alice", "platform-admin", account.id, REGION)
    stacks = account.aws.client("cloudformation", account.id, REGION, **person)
    waiting = {"StackName": "stacked", "WaiterConfig": {"Delay": 1, "MaxAttempts": 20}}
    stacks.create_stack(StackName="stacked", TemplateBody=json.dumps({"Resources": STACK}))
    stacks.get_waiter("stack_create_complete").wait(**waiting)
    disabled = json.loads(json.dumps(STACK))
    disabled["Rule"]["Properties"]["State"] = "DISABLED"
    stacks.update_stack(StackName="stacked", TemplateBody=json.dumps({"Resources": disabled}))
    stacks.get_waiter("stack_update_complete").wait(**waiting)
    stacks.delete_stack(StackName="stacked")
    stacks.get_waiter("stack_delete_complete").wait(**waiting)
    assert record(rules, "PutRule")["requestParameters"]["name"] == "stacked"
    put = record(rules, "PutRule")
    assert put["requestParameters"]["state"] == "DISABLED"
    assert put["userIdentity"]["arn"] == f"arn:aws:sts::{account.id}:assumed-role/platform-admin/alice"
    by = (put["userIdentity"]["invokedBy"], put["sourceIPAddress"], put["userAgent"])
    assert set(by) == {"cloudformation.amazonaws.com"}
    assert record(rules, "DeleteRule")["requestParameters"] == {"name": "stacked"}
    arn = record(topics, "Unsubscribe")["requestParameters"]["subscriptionArn"]
    assert arn.startswith(f"arn:aws:sns:{REGION}:{account.id}:stacked:")
    deleted = record(topics, "DeleteTopic")["requestParameters"]
    assert deleted == {"topicArn": f"arn:aws:sns:{REGION}:{account.id}:stacked"}
