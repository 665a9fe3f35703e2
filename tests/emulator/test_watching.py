"""The local AWS runs schedules and turns what functions log into metrics and alarms, as AWS does."""

import json
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree import ElementTree

import pytest

from local.aws import Inbox, LocalAws

from . import functions

REGION = "eu-central-1"
AT = 1_790_847_000
"""A moment: 2026-10-01T09:30:00Z."""

ECHO = """import boto3
boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))"""
METRIC = """print(json.dumps(event))"""


class Account:
    """A fresh account."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.id = aws, f"{uuid.uuid4().int % 10**12:012}"

    def client(self, service: str) -> Any:
        return self.aws.client(service, self.id, REGION)

    def queue(self, name: str) -> Inbox:
        sqs = self.client("sqs")
        return Inbox(sqs, sqs.create_queue(QueueName=name)["QueueUrl"])

    def arn(self, service: str, name: str) -> str:
        return f"arn:aws:{service}:{REGION}:{self.id}:{name}"

    def scheduler_role(self, *actions: str) -> str:
        trust = {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam, name = self.client("iam"), f"schedule-{uuid.uuid4().hex[:8]}"
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]["Arn"]
        allow = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Statement": [allow]}))
        return arn

    def schedule(self, name: str, **target: Any) -> None:
        self.client("scheduler").create_schedule(
            Name=name, ScheduleExpression="cron(0 6 * * ? *)", FlexibleTimeWindow={"Mode": "OFF"}, Target=target
        )

    def fire(self, name: str) -> None:
        self.aws.fire_schedule(name, self.id, REGION, time=AT)


@pytest.fixture
def account(bare: LocalAws) -> Account:
    return Account(bare)


def echo(account: Account) -> tuple[str, Inbox]:
    """A function that puts what it is invoked with into a queue."""
    inbox = account.queue("echo")
    variables = {"Variables": {"QUEUE": inbox.url}}
    return functions.create(account.aws, account.id, REGION, "echo", ECHO, Timeout=30, Environment=variables), inbox


def test_a_schedule_invokes_a_function_with_its_input_and_context(account: Account) -> None:
    function, inbox = echo(account)
    text = {
        "task": "sweep",
        "time": "<aws.scheduler.scheduled-time>",
        "schedule": "<aws.scheduler.schedule-arn>",
        "execution": "<aws.scheduler.execution-id>",
        "attempt": "<aws.scheduler.attempt-number>",
    }
    role = account.scheduler_role("lambda:InvokeFunction")
    account.schedule("daily", Arn=function, RoleArn=role, Input=json.dumps(text))
    account.fire("daily")
    got = json.loads(inbox.next().body)
    assert uuid.UUID(got.pop("execution"))
    schedule = account.arn("scheduler", "schedule/default/daily")
    assert got == {"task": "sweep", "time": "2026-10-01T09:30:00Z", "schedule": schedule, "attempt": "1"}


def test_a_schedule_without_input_sends_its_own_event(account: Account) -> None:
    function, inbox = echo(account)
    account.schedule("daily", Arn=function, RoleArn=account.scheduler_role("lambda:InvokeFunction"))
    account.fire("daily")
    got = json.loads(inbox.next().body)
    assert (got["source"], got["detail-type"]) == ("aws.scheduler", "Scheduled Event")
    assert got["time"] == "2026-10-01T09:30:00Z"
    assert got["resources"] == [account.arn("scheduler", "schedule/default/daily")]


@pytest.mark.parametrize("gone", [True, False], ids=["function gone", "role without the right"])
def test_an_invocation_that_is_not_delivered_ends_in_the_schedules_dead_letter_queue(
    account: Account, gone: bool
) -> None:
    function, inbox = echo(account)
    letters, rights = account.queue("letters"), ["lambda:InvokeFunction"] if gone else []
    account.schedule(
        "daily",
        Arn=function,
        RoleArn=account.scheduler_role("sqs:SendMessage", *rights),
        Input='{"task": "sweep"}',
        DeadLetterConfig={"Arn": account.arn("sqs", "letters")},
    )
    if gone:
        account.client("lambda").delete_function(FunctionName="echo")
    account.fire("daily")
    letter = letters.next()
    assert json.loads(letter.body) == {"task": "sweep"}
    assert letter.attributes["ERROR_CODE"] == ("ResourceNotFoundException" if gone else "AccessDeniedException")
    assert letter.attributes["SCHEDULED_TIME"] == "2026-10-01T09:30:00Z"
    assert inbox.all() == []


def test_a_disabled_schedule_does_not_fire_and_an_unknown_one_is_an_error(account: Account) -> None:
    function, inbox = echo(account)
    role = account.scheduler_role("lambda:InvokeFunction")
    account.client("scheduler").create_schedule(
        Name="off",
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": function, "RoleArn": role, "Input": '"off"'},
        State="DISABLED",
    )
    account.schedule("on", Arn=function, RoleArn=role, Input='"on"')
    account.fire("off")
    account.fire("on")
    assert json.loads(inbox.next().body) == "on"
    assert inbox.all() == []
    with pytest.raises(urllib.error.HTTPError, match="400"):
        account.fire("none")


def test_a_scheduled_rule_reaches_its_targets_and_another_accounts_bus(account: Account) -> None:
    hub, events = Account(account.aws), account.client("events")
    own, arrived = account.queue("own"), hub.queue("arrived")
    hub.client("events").put_permission(StatementId="spoke", Principal=account.id, Action="events:PutEvents")
    hub.client("events").put_rule(Name="take", EventPattern=json.dumps({"source": ["aws.events"]}))
    hub.client("events").put_targets(Rule="take", Targets=[{"Id": "q", "Arn": hub.arn("sqs", "arrived")}])
    trust = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam = account.client("iam")
    role = iam.create_role(RoleName="beat", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]["Arn"]
    allow = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": "*"}
    iam.put_role_policy(RoleName="beat", PolicyName="p", PolicyDocument=json.dumps({"Statement": [allow]}))
    rule = events.put_rule(Name="beat", ScheduleExpression="rate(1 hour)")["RuleArn"]
    bus = {"Id": "hub", "Arn": hub.arn("events", "event-bus/default"), "RoleArn": role}
    events.put_targets(Rule="beat", Targets=[{"Id": "q", "Arn": account.arn("sqs", "own")}, bus])
    account.aws.fire_rule("beat", account.id, REGION, time=AT)
    event = json.loads(own.next().body)
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    assert (event["resources"], event["time"], event["account"]) == ([rule], "2026-10-01T09:30:00Z", account.id)
    assert json.loads(arrived.next().body) == event


def embedded(**values: Any) -> dict[str, Any]:
    dimensions = [name for name in values if name[0].islower()]
    metrics = [{"Name": name, "Unit": "Count"} for name in values if name[0].isupper()]
    directive = {"Namespace": "Guard", "Dimensions": [dimensions], "Metrics": metrics}
    return {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}, **values}


def sums(account: Account, name: str, **dimensions: str) -> list[float]:
    now = datetime.now(timezone.utc)
    metric = {"Namespace": "Guard", "MetricName": name}
    metric["Dimensions"] = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    answer = account.client("cloudwatch").get_metric_data(
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=5),
        MetricDataQueries=[{"Id": "m", "MetricStat": {"Metric": metric, "Period": 86400, "Stat": "Sum"}}],
    )
    return answer["MetricDataResults"][0]["Values"]


def test_what_a_function_logs_is_kept_and_its_embedded_metrics_are_metrics(account: Account) -> None:
    account.client("logs").create_log_group(logGroupName="/guard")
    functions.create(account.aws, account.id, REGION, "f", METRIC, LoggingConfig={"LogGroup": "/guard"})
    for event in (
        embedded(detection="key-disabled", Alerts=1),
        embedded(detection="key-disabled", Alerts=[1, 2]),
        embedded(detection="key-deleted", Alerts=7),
        embedded(Heartbeat=1),
        {"message": "not a metric", "Alerts": 100},
    ):
        functions.invoke(account.aws, account.id, REGION, "f", event)
    assert sums(account, "Alerts", detection="key-disabled") == [4]
    assert sums(account, "Alerts", detection="key-deleted") == [7]
    assert sums(account, "Alerts") == []
    assert sums(account, "Heartbeat") == [1]
    listed = account.client("cloudwatch").list_metrics(Namespace="Guard", MetricName="Alerts")["Metrics"]
    assert {metric["Dimensions"][0]["Value"] for metric in listed} == {"key-disabled", "key-deleted"}
    lines = account.client("logs").filter_log_events(logGroupName="/guard")["events"]
    assert any('"not a metric"' in line["message"] for line in lines)


def alarm(account: Account, name: str, **settings: Any) -> None:
    account.client("cloudwatch").put_metric_alarm(
        **{
            "AlarmName": name,
            "Namespace": "Guard",
            "Period": 300,
            "EvaluationPeriods": 2,
            "Threshold": 1.0,
            "Statistic": "Sum",
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            **settings,
        }
    )


def test_an_alarm_sees_its_own_dimensions_and_counts_missing_data_as_told(account: Account) -> None:
    functions.create(account.aws, account.id, REGION, "f", METRIC)
    topic = account.client("sns").create_topic(Name="alarms")["TopicArn"]
    told = account.aws.inbox(topic, "told", account=account.id, region=REGION)
    beat = {"MetricName": "Heartbeat", "ComparisonOperator": "LessThanThreshold"}
    alarm(account, "dead", TreatMissingData="breaching", AlarmActions=[topic], **beat)
    alarm(account, "unknown", **beat)
    alarm(account, "quiet", MetricName="Failures", TreatMissingData="notBreaching")
    deleted = [{"Name": "detection", "Value": "key-deleted"}]
    disabled = [{"Name": "detection", "Value": "key-disabled"}]
    alarm(account, "deleted", MetricName="Alerts", Dimensions=deleted, EvaluationPeriods=1)
    alarm(account, "disabled", MetricName="Alerts", Dimensions=disabled, EvaluationPeriods=1)
    functions.invoke(account.aws, account.id, REGION, "f", embedded(Heartbeat=1))
    functions.invoke(account.aws, account.id, REGION, "f", embedded(detection="key-deleted", Alerts=1))
    now = account.aws.evaluate_alarms(account.id, REGION)
    assert now == {
        "dead": "OK",
        "unknown": "OK",
        "quiet": "OK",
        "deleted": "ALARM",
        "disabled": "INSUFFICIENT_DATA",
    }
    later = account.aws.evaluate_alarms(account.id, REGION, time=time.time() + 3600)
    assert (later["dead"], later["unknown"], later["quiet"]) == ("ALARM", "INSUFFICIENT_DATA", "OK")
    assert json.loads(told.next().body)["AlarmName"] == "dead"


def test_an_alarm_invokes_a_function_whose_policy_lets_it(account: Account) -> None:
    function, inbox = echo(account)
    alarm(account, "many", MetricName="Lost", EvaluationPeriods=1, AlarmActions=[function])
    cloudwatch, source = account.client("cloudwatch"), account.arn("cloudwatch", "alarm:many")
    cloudwatch.set_alarm_state(AlarmName="many", StateValue="ALARM", StateReason="not yet allowed")
    cloudwatch.set_alarm_state(AlarmName="many", StateValue="OK", StateReason="over")
    account.client("lambda").add_permission(
        FunctionName="echo", StatementId="alarm", Action="lambda:InvokeFunction",
        Principal="lambda.alarms.cloudwatch.amazonaws.com", SourceArn=source, SourceAccount=account.id,
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName="many", StateValue="ALARM", StateReason="test")
    event = json.loads(inbox.next().body)
    assert (event["source"], event["alarmArn"], event["accountId"]) == ("aws.cloudwatch", source, account.id)
    assert (event["alarmData"]["alarmName"], event["alarmData"]["state"]["value"]) == ("many", "ALARM")
    assert inbox.all() == []


def test_an_alarm_has_its_actions_for_clients_that_speak_xml(account: Account) -> None:
    topic = account.arn("sns", "on-call")
    alarm = {"Namespace": "N", "MetricName": "M", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1}
    put = account.client("cloudwatch").put_metric_alarm
    put(AlarmName="loud", ComparisonOperator="GreaterThanThreshold", AlarmActions=[topic], **alarm)
    put(AlarmName="quiet", ComparisonOperator="GreaterThanThreshold", ActionsEnabled=False, **alarm)
    credential = f"Credential={account.id}/20261001/{REGION}/monitoring/aws4_request"
    head = {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"}
    request = urllib.request.Request(account.aws.endpoint, b"Action=DescribeAlarms&Version=2010-08-01", head)
    with urllib.request.urlopen(request, timeout=30) as answer:
        said = ElementTree.fromstring(answer.read())
    cloudwatch = "{http://monitoring.amazonaws.com/doc/2010-08-01/}"
    alarms = said.iterfind(f".//{cloudwatch}MetricAlarms/{cloudwatch}member")
    assert {
        alarm.findtext(f"{cloudwatch}AlarmName"): (
            alarm.findtext(f"{cloudwatch}ActionsEnabled"),
            [action.text for action in alarm.iterfind(f"{cloudwatch}AlarmActions/{cloudwatch}member")],
        )
        for alarm in alarms
    } == {"loud": ("true", [topic]), "quiet": ("false", [])}


def test_a_queue_has_metrics(account: Account) -> None:
    account.queue("failures")
    sqs, url = account.client("sqs"), account.client("sqs").get_queue_url(QueueName="failures")["QueueUrl"]
    queue = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Dimensions": [{"Name": "QueueName", "Value": "failures"}],
        "EvaluationPeriods": 1,
    }
    alarm(account, "filled", TreatMissingData="notBreaching", **queue)
    assert account.aws.evaluate_alarms(account.id, REGION) == {"filled": "OK"}
    sqs.send_message(QueueUrl=url, MessageBody="lost")
    monitoring = account.client("cloudwatch")
    monitoring.put_metric_data(Namespace="Guard", MetricData=[{"MetricName": "Own", "Value": 1}])
    assert monitoring.describe_alarms()["MetricAlarms"][0]["StateValue"] == "OK"
    assert account.aws.evaluate_alarms(account.id, REGION) == {"filled": "ALARM"}
