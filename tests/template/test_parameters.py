"""What a person deploying meets: every parameter explained, grouped, and checked before anything is created."""

import re

import pytest

from deployed import EXISTING_TOPICS, OPTED_IN, Refused, Stack, source

TEMPLATE = source()
PARAMETERS = TEMPLATE["Parameters"]
INTERFACE = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]

TOPIC = "arn:aws:sns:eu-west-1:111122223333:security-alerts"
KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MULTI_REGION_KEY = "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
ROLE = "arn:aws:iam::111122223333:role/key-admin"
IDENTITY_CENTER_ROLE = (
    "arn:aws:iam::444455556666:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_KeyAdmin_0123456789abcdef"
)
TOPIC_EXAMPLES = (
    ["", TOPIC, "arn:aws-cn:sns:cn-north-1:123456789012:alerts_2", "arn:aws-us-gov:sns:us-gov-east-1:123456789012:a"],
    ["security-alerts", f"{TOPIC}.fifo", f"{TOPIC} ", f"{TOPIC}\n", "arn:aws:sqs:eu-west-1:111122223333:q",
     "arn:aws:sns:eu-west-1:1111:t", "arn:aws:sns:eu-west-1:111122223333:", f"{TOPIC}:0f1e2d3c"],
)

# parameter -> (accepted, refused)
EXAMPLES = {
    "AlertEmail": (
        ["", "kms-alerts@example.com", "on.call+kms@security.example.org"],
        ["kms-alerts", "@example.com", "a@b", "a@example.com,b@example.com", "a b@example.com", "a@example.com\n"],
    ),
    "AlarmActionArn": (
        ["", TOPIC, "arn:aws-cn:sns:cn-north-1:123456789012:on-call", "arn:aws:ssm:eu-west-1:111122223333:opsitem:1",
         "arn:aws:ssm-incidents::111122223333:response-plan/kms", "arn:aws:lambda:eu-west-1:111122223333:function:page"],
        ["on-call", "arn:aws:sns:eu-west-1:on-call", "arn:aws:sns:eu-west-1:111122223333:", f"{TOPIC} {TOPIC}", "https://example.com"],
    ),
    "ChatTopic": (["true", "false"], ["", "True", "yes", "1"]),
    "MinimumSeverity": (["Informational", "Low", "Medium", "High", "Critical"], ["", "high", "Fatal", "4"]),
    "ProtectedKeys": (
        ["", "1234abcd-12ab-34cd-56ef-1234567890ab", MULTI_REGION_KEY, f"{KEY}, mrk-1234abcd12ab34cd56ef1234567890ab",
         "arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
        ["alias/payments-db", "1234abcd", "*", f"{KEY},", f",{KEY}", f"{KEY} {KEY}", f"{KEY}0", "mrk-1234",
         "arn:aws:kms:eu-west-1:111122223333:alias/payments-db", ",".join([KEY] * 6)],
    ),
    "ExpectedPrincipals": (
        ["", ROLE, f"{ROLE},{IDENTITY_CENTER_ROLE}", f"{ROLE}, {IDENTITY_CENTER_ROLE}",
         "arn:aws-cn:iam::123456789012:role/ci/deploy@prod"],
        ["key-admin", "*", "arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:user/alice",
         "arn:aws:sts::111122223333:assumed-role/key-admin/alice", "arn:aws:iam::*:role/key-admin",
         "arn:aws:iam::111122223333:role/*", f"{ROLE},", f",{ROLE}", f"{ROLE};{ROLE}", f"{ROLE} {ROLE}",
         ",".join([ROLE] * 100)],
    ),
    "TrustedSources": (
        ["", "198.51.100.0/24", "198.51.100.7,2001:db8::/32", "vpc-0a1b2c3d, vpce-0a1b2c3d4e5f60718,o-a1b2c3d4e5"],
        ["example.com", "*", "vpc-", "vpc-*", "subnet-0a1b2c3d", "o-1", "198.51.100.0/24,", "198.51.100.0/24;vpc-0a1b2c3d",
         ",".join(["198.51.100.0/24"] * 40)],
    ),
    "ReportDeniedAttempts": (["true", "false"], ["", "True", "yes", "1"]),
    "ReportLostKeyUse": (["true", "false"], ["", "True", "yes", "1"]),
    "ReminderDays": (["7,3,1", "1", "30, 14 ,2"], ["", "0", "31", "7;3", "7,,3", "7,3,", "a week", "1.5", "7\n3"]),
    "AcknowledgedKeys": (
        ["", KEY, f"{KEY.rpartition('/')[2]}, {MULTI_REGION_KEY},{MULTI_REGION_KEY.rpartition('/')[2]}"],
        ["alias/retired", "retired", "arn:aws:kms:eu-west-1:111122223333:alias/retired", f"{KEY}0", f"{KEY},", f"{KEY};{KEY}",
         KEY.upper(), ",".join([KEY] * 28)],
    ),
    "SweepHour": (["0", "6", "23"], ["", "24", "-1", "6am"]),
    "CloudTrailLogGroupName": (
        ["", "CloudTrail/DefaultLogGroup", "aws-cloudtrail-logs-111122223333-1a2b3c4d", "/trail/#1_a.b"],
        ["arn:aws:logs:eu-west-1:111122223333:log-group:trail", "trail logs", "trail*", "x" * 513],
    ),
    "MassEventThreshold": (["1", "10", "100000"], ["", "0", "-1", "100001", "ten"]),
    "ExistingAlertsTopicArn": TOPIC_EXAMPLES,
    "ExistingFindingsTopicArn": TOPIC_EXAMPLES,
    "ExistingTopicsKmsKeyArn": (
        ["", KEY, MULTI_REGION_KEY],
        ["alias/aws/sns", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-west-1:111122223333:alias/topics",
         "arn:aws:kms:eu-west-1:111122223333:key/*", f"{KEY}0", KEY.upper()],
    ),
    "OrganizationId": (["", "o-a1b2c3d4e5"], ["*", "o-", "r-ab12", "O-A1B2C3D4E5", "o-a1b2c3d4e5 ", "111122223333"]),
    "Architecture": (["arm64", "x86_64"], ["", "x86", "arm", "amd64"]),
    "EnrichTimeoutMs": (["0", "2000", "5000"], ["", "-1", "5001", "2s"]),
    "CreateDashboard": (["true", "false"], ["", "True", "yes", "1"]),
    "LogRetentionDays": (["1", "30", "365", "3653"], ["", "0", "31", "forever"]),
}


def accepts(parameter, value):
    """Whether CloudFormation takes the value: a pattern has to match all of it."""
    if "AllowedValues" in parameter and value not in map(str, parameter["AllowedValues"]):
        return False
    if "AllowedPattern" in parameter and not re.fullmatch(parameter["AllowedPattern"], value):
        return False
    if len(value) > parameter.get("MaxLength", 4096):
        return False
    if parameter["Type"] == "Number":
        try:
            number = float(value)
        except ValueError:
            return False
        return parameter.get("MinValue", number) <= number <= parameter.get("MaxValue", number)
    return True


def test_every_parameter_has_examples():
    assert set(EXAMPLES) == set(PARAMETERS)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (good, _) in EXAMPLES.items() for value in good])
def test_good_value_is_taken(name, value):
    assert accepts(PARAMETERS[name], value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, bad) in EXAMPLES.items() for value in bad])
def test_bad_value_is_refused(name, value):
    assert not accepts(PARAMETERS[name], value)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_explains_itself_and_has_a_default_that_holds(name):
    parameter = PARAMETERS[name]
    assert len(parameter["Description"]) > 20
    assert parameter["ConstraintDescription"].startswith("Takes ")
    assert accepts(parameter, str(parameter["Default"]))
    assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter)


def test_every_parameter_is_labelled_and_in_one_group():
    assert set(INTERFACE["ParameterLabels"]) == set(PARAMETERS)
    assert all(label["default"] for label in INTERFACE["ParameterLabels"].values())
    grouped = [name for group in INTERFACE["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(PARAMETERS)
    assert all(group["Label"]["default"] for group in INTERFACE["ParameterGroups"])


def test_key_of_existing_topics_needs_existing_topics():
    with pytest.raises(Refused, match="ExistingAlertsTopicArn"):
        Stack({"ExistingTopicsKmsKeyArn": KEY})
    Stack({"ExistingTopicsKmsKeyArn": KEY, "ExistingFindingsTopicArn": TOPIC})


def test_topics_are_created_unless_existing_ones_are_given():
    assert set(Stack().of_type("AWS::SNS::Topic")) == {"AlertsTopic", "FindingsTopic"}
    assert Stack(EXISTING_TOPICS).of_type("AWS::SNS::Topic") == {}
    assert Stack(EXISTING_TOPICS).of_type("AWS::SNS::TopicPolicy") == {}
    assert set(Stack(EXISTING_TOPICS | {"ChatTopic": "true"}).of_type("AWS::SNS::Topic")) == {"ChatTopicNotifications"}


def test_email_is_subscribed_to_the_alerts_when_given():
    assert "AlertEmailSubscription" not in Stack().resources
    for parameters, topic in ((OPTED_IN, "<AlertsTopic>"), (OPTED_IN | EXISTING_TOPICS, EXISTING_TOPICS["ExistingAlertsTopicArn"])):
        subscription = Stack(parameters).properties("AlertEmailSubscription")
        assert subscription == {"TopicArn": topic, "Protocol": "email", "Endpoint": "kms-alerts@example.com"}


PROOF = {"Protocol": "sqs", "Endpoint": "<ProofQueue.Arn>", "FilterPolicy": {"detection": ["guard-test"]}}
ELSEWHERE = "arn:aws:sns:eu-central-1:444455556666:theirs"


@pytest.mark.parametrize(
    ("parameters", "topics"),
    [
        ({}, {"Alerts": "<AlertsTopic>", "Findings": "<FindingsTopic>"}),
        (EXISTING_TOPICS, {"Alerts": EXISTING_TOPICS["ExistingAlertsTopicArn"], "Findings": EXISTING_TOPICS["ExistingFindingsTopicArn"]}),
        ({"ExistingAlertsTopicArn": ELSEWHERE}, {"Findings": "<FindingsTopic>"}),
        ({"ExistingFindingsTopicArn": ELSEWHERE}, {"Alerts": "<AlertsTopic>"}),
        ({"ExistingAlertsTopicArn": TOPIC, "ExistingFindingsTopicArn": TOPIC}, {"Alerts": TOPIC}),
    ],
    ids=["own", "existing", "alerts of another account", "findings of another account", "one for both"],
)
def test_proof_queue_hears_tests_alone_through_each_topic_of_the_account(parameters, topics):
    found = Stack(parameters).of_type("AWS::SNS::Subscription")
    assert found == {f"Proof{which}Subscription": {**PROOF, "TopicArn": topic} for which, topic in topics.items()}


def test_outputs_are_what_an_operator_needs_next():
    outputs = Stack().outputs
    assert outputs == {
        "AlertsTopicArn": "<AlertsTopic>",
        "FindingsTopicArn": "<FindingsTopic>",
        "SubscribeCommand": "aws sns subscribe --region eu-central-1 --topic-arn <AlertsTopic> --protocol email"
        " --notification-endpoint name@example.com",
        "AlertFunctionName": "<AlertFunction>",
        "AlertFunctionRoleArn": "<AlertFunctionRole.Arn>",
        "AlertLogGroupName": "<AlertLogGroup>",
        "WatchFunctionName": "<WatchFunction>",
        "WatchFunctionRoleArn": "<WatchFunctionRole.Arn>",
        "WatchLogGroupName": "<WatchLogGroup>",
        "WatchFailureQueueUrl": "<WatchFailureQueue>",
        "ScheduleDeadLetterQueueUrl": "<ScheduleDeadLetterQueue>",
        "AlertFailureQueueUrl": "<AlertFailureQueue>",
        "RuleDeadLetterQueueUrl": "<RuleDeadLetterQueue>",
    }
    assert all(output["Description"] for output in TEMPLATE["Outputs"].values())
    assert Stack({"ChatTopic": "true"}).outputs == outputs | {"ChatTopicArn": "<ChatTopicNotifications>"}
    existing = Stack(EXISTING_TOPICS).outputs
    assert existing["AlertsTopicArn"] == EXISTING_TOPICS["ExistingAlertsTopicArn"]
    assert existing["FindingsTopicArn"] == EXISTING_TOPICS["ExistingFindingsTopicArn"]
