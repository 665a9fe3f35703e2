"""An alert that can't go out lies in a queue for two weeks, and an alarm says so at the first one."""

import json

import pytest

from deployed import EXISTING_TOPICS, OPTED_IN, REGION, Stack

TWO_WEEKS = 14 * 24 * 60 * 60
SETTINGS = pytest.mark.parametrize("parameters", [{}, OPTED_IN, EXISTING_TOPICS], ids=["default", "opted in", "existing topics"])

# namespace, metric, dimensions, statistic, seconds, threshold
ALARMS = {
    "RuleDeadLetterAlarm": (
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "<RuleDeadLetterQueue.QueueName>"}, "Maximum", 60, 1,
    ),
    "AlertFailureAlarm": (
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "<AlertFailureQueue.QueueName>"}, "Maximum", 60, 1,
    ),
    "AlertErrorAlarm": ("AWS/Lambda", "Errors", {"FunctionName": "<AlertFunction>"}, "Sum", 60, 1),
    "AlertThrottleAlarm": ("AWS/Lambda", "Throttles", {"FunctionName": "<AlertFunction>"}, "Sum", 60, 1),
    "AlertLostAlarm": ("AWS/Lambda", "DestinationDeliveryFailures", {"FunctionName": "<AlertFunction>"}, "Sum", 60, 1),
    "WatchErrorAlarm": ("AWS/Lambda", "Errors", {"FunctionName": "<WatchFunction>"}, "Sum", 60, 1),
    "WatchFailureAlarm": (
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "<WatchFailureQueue.QueueName>"}, "Maximum", 60, 1,
    ),
    "ScheduleDeadLetterAlarm": (
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "<ScheduleDeadLetterQueue.QueueName>"}, "Maximum", 60, 1,
    ),
    "MassEventAlarm": ("KmsKeyGuard", "KeysAtRisk", {"Function": "<AlertFunction>"}, "Sum", 600, 10),
}


@SETTINGS
def test_what_eventbridge_cannot_deliver_goes_to_the_dead_letter_queue(parameters):
    for name, rule in Stack(parameters).of_type("AWS::Events::Rule").items():
        by_arn = {target["Arn"]: target for target in rule["Targets"]}
        self_check = by_arn.pop("<SelfCheckQueue.Arn>", None)
        assert (self_check is not None) == ("Tampered" in name or name == "StackStatusRule"), name
        # An event that starts no self-check is no alert that is lost.
        if self_check:
            assert self_check == {
                "Id": "self-check", "Arn": "<SelfCheckQueue.Arn>", "SqsParameters": {"MessageGroupId": "self-check"},
            }
        if name == "StackStatusRule":
            assert not by_arn
            continue
        (target,) = by_arn.values()
        assert target["Arn"] == "<AlertFunction.Arn>"
        assert target["DeadLetterConfig"] == {"Arn": "<RuleDeadLetterQueue.Arn>"}
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 900, "MaximumRetryAttempts": 185}
        # The function reads the whole event.
        assert not {"Input", "InputPath", "InputTransformer"} & set(target)


@SETTINGS
def test_what_the_function_fails_on_is_tried_twice_more_and_goes_to_the_failure_queue(parameters):
    configs = Stack(parameters).of_type("AWS::Lambda::EventInvokeConfig").values()
    kept = {"AlertFunction": ("AlertFailureQueue", 21600), "WatchFunction": ("WatchFailureQueue", 3600)}
    assert sorted(configs, key=lambda config: config["FunctionName"]) == [
        {
            "FunctionName": f"<{function}>",
            "Qualifier": "$LATEST",
            "MaximumRetryAttempts": 2,
            "MaximumEventAgeInSeconds": age,
            "DestinationConfig": {"OnFailure": {"Destination": f"<{queue}.Arn>"}},
        }
        for function, (queue, age) in kept.items()
    ]


@pytest.mark.parametrize(("parameters", "hour"), [({}, 6), (OPTED_IN, 23)], ids=["default", "opted in"])
def test_schedules_start_the_watch_function_with_their_own_time(parameters, hour):
    schedules = Stack(parameters).of_type("AWS::Scheduler::Schedule")
    told = {
        name: (schedule["ScheduleExpression"], json.loads(schedule["Target"]["Input"])) for name, schedule in schedules.items()
    }
    time = "<aws.scheduler.scheduled-time>"
    assert told == {
        "SweepSchedule": (f"cron(0 {hour} * * ? *)", {"look": "sweep", "time": time}),
        "CoverageSchedule": ("rate(1 hour)", {"look": "coverage", "time": time}),
    }
    for schedule in schedules.values():
        assert schedule.get("State", "ENABLED") == "ENABLED"
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
        target = schedule["Target"]
        assert (target["Arn"], target["RoleArn"]) == ("<WatchFunction.Arn>", "<ScheduleRole.Arn>")
        assert target["DeadLetterConfig"] == {"Arn": "<ScheduleDeadLetterQueue.Arn>"}
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185}


@SETTINGS
def test_dead_watch_function_is_told_because_its_heartbeat_is_missing(parameters):
    alarm = Stack(parameters).properties("WatchSilentAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("KmsKeyGuard", "Heartbeat")
    assert alarm["Dimensions"] == [{"Name": "Function", "Value": "<WatchFunction>"}]
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Sum", 3600, 3)
    assert (alarm["ComparisonOperator"], int(alarm["Threshold"])) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm.get("DatapointsToAlarm", 3) == 3
    assert alarm.get("ActionsEnabled", True) is True


@SETTINGS
def test_one_batch_of_the_self_check_queue_at_a_time_and_what_is_given_back_comes_after_five_minutes(parameters):
    stack = Stack(parameters)
    queue = stack.properties("SelfCheckQueue")
    assert (queue["FifoQueue"], queue["ContentBasedDeduplication"]) == (True, True)
    # Longer than the function's five minutes between two runs, and, as Lambda wants it, than the function runs.
    assert 300 < queue["VisibilityTimeout"] < 360 and queue["VisibilityTimeout"] >= stack.properties("WatchFunction")["Timeout"]
    assert queue["DelaySeconds"] <= 60
    (source,) = stack.of_type("AWS::Lambda::EventSourceMapping").values()
    assert source == {
        "EventSourceArn": "<SelfCheckQueue.Arn>",
        "FunctionName": "<WatchFunction>",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }


@SETTINGS
def test_failure_queues_keep_messages_for_two_weeks(parameters):
    queues = Stack(parameters).of_type("AWS::SQS::Queue")
    # These hold nothing that matters the next day.
    assert {queues.pop(name)["MessageRetentionPeriod"] for name in ("SelfCheckQueue", "ProofQueue")} == {3600}
    assert {name: queue["MessageRetentionPeriod"] for name, queue in queues.items()} == {
        "AlertFailureQueue": TWO_WEEKS,
        "RuleDeadLetterQueue": TWO_WEEKS,
        "ScheduleDeadLetterQueue": TWO_WEEKS,
        "WatchFailureQueue": TWO_WEEKS,
    }


@SETTINGS
def test_alarms_watch_every_way_to_lose_an_alert_and_go_off_at_the_first(parameters):
    alarms = Stack(parameters).of_type("AWS::CloudWatch::Alarm")
    # The one that goes off because nothing happens has its own test.
    del alarms["WatchSilentAlarm"]
    watched = {
        name: (
            alarm["Namespace"],
            alarm["MetricName"],
            {d["Name"]: d["Value"] for d in alarm["Dimensions"]},
            alarm["Statistic"],
            alarm["Period"],
            int(alarm["Threshold"]),
        )
        for name, alarm in alarms.items()
    }
    assert watched == ALARMS
    for alarm in alarms.values():
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert alarm["EvaluationPeriods"] == 1
        assert alarm.get("DatapointsToAlarm", 1) == 1
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm.get("ActionsEnabled", True) is True


@pytest.mark.parametrize(
    ("parameters", "actions"),
    [
        ({}, ["<AlertsTopic>"]),
        (OPTED_IN, ["<AlertsTopic>", "<ChatTopicNotifications>", f"arn:aws:sns:{REGION}:123456789012:on-call"]),
        (EXISTING_TOPICS, [EXISTING_TOPICS["ExistingAlertsTopicArn"]]),
    ],
    ids=["default", "second route", "existing topics"],
)
def test_alarms_reach_people_and_the_second_route(parameters, actions):
    for alarm in Stack(parameters).of_type("AWS::CloudWatch::Alarm").values():
        # One also starts the watch function, beside the ways to people.
        assert [action for action in alarm["AlarmActions"] if action != "<WatchFunction.Arn>"] == actions


def test_alarms_name_the_guard_and_what_to_look_at():
    for alarm in Stack().of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmDescription"].startswith("KMS Key Guard: ")
        assert len(alarm["AlarmDescription"]) <= 1024


def test_the_mass_event_alarm_starts_the_watch_function_and_nobody_else_does():
    stack = Stack(OPTED_IN)
    assert "<WatchFunction.Arn>" in stack.properties("MassEventAlarm")["AlarmActions"]
    of_watch = [p for p in stack.of_type("AWS::Lambda::Permission").values() if p["FunctionName"] == "<WatchFunction>"]
    assert of_watch == [{
        "FunctionName": "<WatchFunction>",
        "Action": "lambda:InvokeFunction",
        "Principal": "lambda.alarms.cloudwatch.amazonaws.com",
        "SourceArn": "<MassEventAlarm.Arn>",
    }]


def test_mass_event_threshold_is_the_operators():
    alarm = Stack({"MassEventThreshold": "250"}).properties("MassEventAlarm")
    assert alarm["Threshold"] == "250"


def test_function_has_time_to_enrich_and_to_publish():
    function = Stack().properties("AlertFunction")
    enriching = Stack().template["Parameters"]["EnrichTimeoutMs"]["MaxValue"] / 1000
    assert function["Timeout"] == 15
    assert function["Timeout"] >= enriching + 10


def test_function_runs_as_designed():
    function = Stack().properties("AlertFunction")
    assert function["Runtime"] == "provided.al2023"
    assert function["Handler"] == "bootstrap"
    assert function["MemorySize"] == 128
    assert function["Architectures"] == ["arm64"]
    assert function["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "<AlertLogGroup>"}
    # A limit of its own would delay alerts exactly when many come at once.
    assert "ReservedConcurrentExecutions" not in function
    assert Stack({"Architecture": "x86_64"}).properties("AlertFunction")["Architectures"] == ["x86_64"]


def test_watch_function_has_time_for_ten_thousand_keys():
    function = Stack().properties("WatchFunction")
    assert (function["Timeout"], function["MemorySize"]) == (300, 256)
    assert (function["Runtime"], function["Handler"]) == ("provided.al2023", "bootstrap")
    assert function["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "<WatchLogGroup>"}
    assert "ReservedConcurrentExecutions" not in function


@pytest.mark.parametrize("function", ["alert", "watch"])
def test_log_group_is_kept_for_the_chosen_time(function):
    assert Stack().properties(f"{function.capitalize()}LogGroup") == {
        "LogGroupName": f"/aws/lambda/kms-key-guard-{function}",
        "RetentionInDays": "365",
    }


def test_watch_function_is_told_its_settings():
    function = Stack(OPTED_IN).properties("WatchFunction")
    assert function["Environment"]["Variables"] == {
        "STACK_NAME": "kms-key-guard",
        "LOG_GROUP_NAME": "<WatchLogGroup>",
        "ALERT_LOG_GROUP_NAME": "<AlertLogGroup>",
        "ALERTS_TOPIC_ARN": "<AlertsTopic>",
        "FINDINGS_TOPIC_ARN": "<FindingsTopic>",
        "CHAT_TOPIC_ARN": "<ChatTopicNotifications>",
        "MINIMUM_SEVERITY": "Low",
        "REMINDER_DAYS": "14,2",
        "PROTECTED_KEYS": OPTED_IN["ProtectedKeys"],
        "ACKNOWLEDGED_KEYS": "1234abcd-12ab-34cd-56ef-1234567890ab",
    }


def test_function_is_told_its_settings():
    def environment(parameters):
        return Stack(parameters).properties("AlertFunction")["Environment"]["Variables"]

    assert environment({}) == {
        "ALERTS_TOPIC_ARN": "<AlertsTopic>",
        "FINDINGS_TOPIC_ARN": "<FindingsTopic>",
        "STACK_NAME": "kms-key-guard",
        "MINIMUM_SEVERITY": "Informational",
        "REPORT_DENIED_ATTEMPTS": "false",
        "REPORT_LOST_KEY_USE": "false",
        "PROTECTED_KEYS": "",
        "EXPECTED_PRINCIPALS": "",
        "TRUSTED_SOURCES": "",
        "ENRICH_TIMEOUT_MS": "2000",
    }
    opted_in = environment(OPTED_IN | EXISTING_TOPICS)
    assert opted_in["ALERTS_TOPIC_ARN"] == EXISTING_TOPICS["ExistingAlertsTopicArn"]
    assert opted_in["FINDINGS_TOPIC_ARN"] == EXISTING_TOPICS["ExistingFindingsTopicArn"]
    assert opted_in["CHAT_TOPIC_ARN"] == "<ChatTopicNotifications>"
    assert opted_in["MINIMUM_SEVERITY"] == "Low"
    assert opted_in["REPORT_DENIED_ATTEMPTS"] == opted_in["REPORT_LOST_KEY_USE"] == "true"
    assert opted_in["PROTECTED_KEYS"] == OPTED_IN["ProtectedKeys"]
    assert opted_in["EXPECTED_PRINCIPALS"] == OPTED_IN["ExpectedPrincipals"]
    assert opted_in["TRUSTED_SOURCES"] == OPTED_IN["TrustedSources"]
    # Lambda takes 4 KB of variables altogether.
    parameters = Stack().template["Parameters"]
    largest = {name: "r" * parameters[name]["MaxLength"] for name in ("ProtectedKeys", "ExpectedPrincipals", "TrustedSources")}
    assert len(json.dumps(environment(OPTED_IN | EXISTING_TOPICS | largest))) < 4096


def test_auditors_get_exactly_the_filter_and_alarm_they_look_for_and_only_when_asked():
    """Security Hub's CloudWatch.7 compares the pattern word for word."""
    assert Stack(OPTED_IN).of_type("AWS::Logs::MetricFilter") == {}
    stack = Stack({"CloudTrailLogGroupName": "trail", "AlarmActionArn": OPTED_IN["AlarmActionArn"]})
    metric_filter, alarm = stack.properties("AuditorsMetricFilter"), stack.properties("AuditorsAlarm")
    assert metric_filter["LogGroupName"] == "trail"
    assert metric_filter["FilterPattern"] == (
        "{($.eventSource=kms.amazonaws.com) && (($.eventName=DisableKey) || ($.eventName=ScheduleKeyDeletion))}"
    )
    (transformation,) = metric_filter["MetricTransformations"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (transformation["MetricNamespace"], transformation["MetricName"])
    assert transformation["MetricValue"] == "1" and "Dimensions" not in alarm
    wanted = {
        "Statistic": "Sum", "Period": 300, "EvaluationPeriods": 1, "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold", "TreatMissingData": "notBreaching",
        "AlarmActions": ["<AlertsTopic>", OPTED_IN["AlarmActionArn"]],
    }
    assert {name: alarm[name] for name in wanted} == wanted
