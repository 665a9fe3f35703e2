"""An organization's templates: one set of patterns, the way from a spoke to the hub, and who may do what on it."""

import json
import re

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from test_patterns import HUB_ONLY, SAMPLES_REGION, local_aws_matches, matching

from deployed import ACCOUNT, OPTED_IN, REGION, ROOT, Stack, source, statements, strings
from linting import cfn_lint

ORGANIZATION = "o-a1b2c3d4e5"
SPOKE_ACCOUNT = "444455556666"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/kms-key-guard"
HUB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/kms-key-guard-AlertFunctionRole-1A2B3C"
HUB = {"OrganizationId": ORGANIZATION}
HUB_IS = {
    "HubAccountId": ACCOUNT,
    "HubRegion": REGION,
    "HubRoleName": HUB_ROLE.partition("/")[2],
    "OrganizationId": ORGANIZATION,
}
OPT_INS = {"ReportDeniedAttempts": "true", "ReportLostKeyUse": "true"}
TEMPLATES = pytest.mark.parametrize("template", ["stackset/spoke.yaml", "stackset/org.yaml"])
READER = "kms-key-guard-spoke-reader"
STACK_OF_THE_SET = f"arn:aws:cloudformation:us-east-1:{SPOKE_ACCOUNT}:stack/StackSet-kms-key-guard-spoke-0f1e2d3c/0a1b"


def spoke(parameters=None, *, account=SPOKE_ACCOUNT, region="us-east-1", home=REGION, **where):
    return Stack(HUB_IS | {"HomeRegion": home} | (parameters or {}), account=account, region=region, file="stackset/spoke.yaml", **where)


def rollout(parameters=None):
    required = {
        "OrganizationalUnitIds": "ou-ab12-11112222,r-ab12",
        "Regions": "eu-central-1,us-east-1",
        **HUB_IS,
    }
    return Stack(required | (parameters or {}), file="stackset/org.yaml")


def rules(stack):
    """Rule -> pattern and state, of the rules that have a pattern; descriptions and targets differ."""
    return {
        name.removeprefix("AlertFunction"): (
            json.loads(pattern) if isinstance(pattern := rule["EventPattern"], str) else pattern,
            rule.get("State", "ENABLED"),
        )
        for name, rule in stack.of_type("AWS::Events::Rule").items()
        if "EventPattern" in rule
    }


def about_keys(patterns):
    """Those of them that aren't about the guard itself or the spokes."""
    about_something_else = {"SpokeAlarmRule", "HeartbeatRule", "UndeliveredAlarmRule", "GuardTestRule", "StackStatusRule"}
    return {name: rule for name, rule in patterns.items() if name not in about_something_else and "Tampered" not in name}


# ---- The templates as files ---------------------------------------------------------------------------------------


@TEMPLATES
def test_cfn_lint_has_nothing_to_say(template):
    assert cfn_lint(ROOT / template) == []


@TEMPLATES
def test_template_is_one_that_service_managed_stack_sets_take(template):
    text = source(template)
    assert "Transform" not in text
    assert not [word for word in strings(text) if word in {"Fn::Transform", "AWS::Include"}]
    assert not {r["Type"] for r in text["Resources"].values()} & {"AWS::CloudFormation::Stack", "AWS::Serverless::Function"}
    assert len((ROOT / template).read_bytes()) <= 51_200


@TEMPLATES
def test_parameters_explain_themselves_and_are_labelled(template):
    text = source(template)
    interface = text["Metadata"]["AWS::CloudFormation::Interface"]
    assert set(interface["ParameterLabels"]) == set(text["Parameters"])
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(text["Parameters"])
    for parameter in text["Parameters"].values():
        assert len(parameter["Description"]) > 20
        assert parameter["ConstraintDescription"].startswith("Takes ")
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("HubAccountId", [ACCOUNT], ["", "1111", "*", f"{ACCOUNT} "]),
        ("HubRegion", ["eu-west-1", "us-gov-west-1"], ["", "all", "eu-west", "EU-WEST-1"]),
        ("HubEventBusName", ["kms-key-guard", "guard_2"], ["", BUS, "*", "kms key"]),
        ("HubRoleName", ["kms-key-guard-AlertFunctionRole-1A2B3C"], ["", HUB_ROLE, "path/guard", "*", "r" * 65]),
        ("OrganizationId", [ORGANIZATION], ["", "*", "r-ab12", "o-"]),
        ("HomeRegion", ["eu-west-1", "us-gov-west-1", "ap-southeast-2", "eusc-de-east-1"], ["", "all", "eu-west", "EU-WEST-1"]),
        ("Regions", ["eu-west-1"], ["", "all", "eu-west-1 "]),
        ("OrganizationalUnitIds", ["r-ab12", "ou-ab12-11112222"], ["", "o-a1b2c3d4e5", "111122223333", "all"]),
    ],
)  # fmt: skip
def test_only_values_that_can_be_right_are_taken(name, good, bad):
    for template in ("stackset/spoke.yaml", "stackset/org.yaml"):
        if pattern := source(template)["Parameters"].get(name, {}).get("AllowedPattern"):
            assert [value for value in good if not re.fullmatch(pattern, value)] == []
            assert [value for value in bad if re.fullmatch(pattern, value)] == []


def test_spoke_and_rollout_take_the_same_values():
    ours, theirs = source("stackset/spoke.yaml")["Parameters"], source("stackset/org.yaml")["Parameters"]
    for name in set(ours) & set(theirs):
        assert ours[name].get("AllowedPattern") == theirs[name].get("AllowedPattern")
        assert ours[name].get("AllowedValues") == theirs[name].get("AllowedValues")
        assert ours[name].get("Default") == theirs[name].get("Default")


# ---- One set of patterns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, OPT_INS, {"ReportLostKeyUse": "true"}], ids=["default", "opted in", "one"])
def test_spoke_hub_and_single_account_have_the_same_rules(parameters):
    single, hub, forwarded = rules(Stack(parameters)), rules(Stack(parameters | HUB)), rules(spoke(parameters))
    on_the_bus = {name.removeprefix("Hub"): rule for name, rule in hub.items() if name.startswith("Hub")}
    assert {name: rule for name, rule in hub.items() if not name.startswith("Hub")} == single
    assert about_keys(on_the_bus) == about_keys(single)
    assert about_keys(forwarded) == about_keys(single)
    for rule in ("TamperedSpokeRule", "TamperedTrailRule"):
        assert on_the_bus[rule] == forwarded[rule] == single.get(rule, forwarded[rule])


def test_what_a_spoke_forwards_of_itself_is_what_the_hub_listens_to():
    hub, ours = rules(Stack(HUB)), rules(spoke())
    (alarm, _), (heard, _) = ours["UndeliveredAlarmRule"], hub["HubSpokeAlarmRule"]
    assert alarm["resources"] == [f"arn:aws:cloudwatch:us-east-1:{SPOKE_ACCOUNT}:alarm:{heard['detail']['alarmName'][0]}"]
    assert spoke().properties("UndeliveredAlarm")["AlarmName"] == heard["detail"]["alarmName"][0]
    assert (alarm["source"], alarm["detail-type"], alarm["detail"]["$or"]) == (
        heard["source"], heard["detail-type"], heard["detail"]["$or"],
    )  # fmt: skip
    heartbeat = spoke().properties("HeartbeatRule")
    assert heartbeat["ScheduleExpression"] == "rate(12 hours)"
    (wanted,) = hub["HubHeartbeatRule"][0]["resources"]
    assert wanted == {"suffix": f":rule/{heartbeat['Name']}"}


# ---- The single account sees none of it ---------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, OPTED_IN], ids=["default", "opted in"])
def test_without_an_organization_the_stack_is_what_it_was(parameters):
    single, hub = Stack(parameters), Stack(parameters | HUB)
    assert not [name for name in single.resources if name.startswith("Hub")]
    assert set(hub.resources) - set(single.resources) == {name for name in hub.resources if name.startswith("Hub")}
    changed = {name for name, resource in single.resources.items() if hub.resources[name] != resource}
    assert changed == {
        "AlertFunction",
        "AlertFunctionRole",
        "MassEventAlarm",
        "RuleDeadLetterQueuePolicy",
        "WatchFunction",
        "WatchFunctionRole",
    }
    assert single.outputs.items() <= hub.outputs.items()
    assert set(hub.outputs) - set(single.outputs) == {"SpokeParameters"}
    assert "organization" not in json.dumps([single.resources, single.outputs]).lower()
    assert "kms-key-guard-spoke" not in json.dumps([single.resources, single.outputs])


def test_hub_gives_out_what_its_spokes_have_to_know():
    given = dict(pair.split("=", 1) for pair in Stack(HUB | OPT_INS).outputs["SpokeParameters"].split())
    assert given == HUB_IS | OPT_INS | {"HubEventBusName": "<HubEventBus>", "HubRoleName": "<AlertFunctionRole>"}
    required = {name for name, p in source("stackset/spoke.yaml")["Parameters"].items() if "Default" not in p}
    assert required - set(given) == {"HomeRegion"}


def test_function_is_told_of_the_reader_role_at_the_hub_only():
    def environment(stack):
        return stack.properties("AlertFunction")["Environment"]["Variables"]

    added = environment(Stack(HUB)).items() - environment(Stack()).items()
    assert dict(added) == {"READER_ROLE_NAME": READER, "HUB_ACCOUNT_ID": ACCOUNT}


# ---- The hub ------------------------------------------------------------------------------------------------------


def test_bus_hears_the_organization_and_nobody_else():
    policy = Stack(HUB).properties("HubEventBusPolicy")
    assert policy["EventBusName"] == "<HubEventBus>"
    assert policy["Statement"] == {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": "<HubEventBus.Arn>",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}},
    }


@pytest.mark.parametrize("parameters", [HUB, HUB | OPT_INS], ids=["default", "opted in"])
def test_hub_rules_bring_events_to_the_function_and_what_fails_to_the_queue(parameters):
    stack = Stack(parameters)
    for name, rule in stack.of_type("AWS::Events::Rule").items():
        if name.startswith("Hub"):
            target, *others = rule["Targets"]
            assert [other["Id"] for other in others] == (["self-check"] if name == "HubTamperedHubRule" else [])
            # What is done to the hub itself is on its account's default bus.
            assert rule.get("EventBusName") == (None if name == "HubTamperedHubRule" else "<HubEventBus>")
            assert target["DeadLetterConfig"] == {"Arn": "<RuleDeadLetterQueue.Arn>"}
            assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 900, "MaximumRetryAttempts": 185}
            if name != "HubHeartbeatRule":
                assert target["Arn"] == "<AlertFunction.Arn>"
                assert not {"Input", "InputPath", "InputTransformer"} & set(target)
    of_the_bus = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/<HubEventBus>/*"
    permission = stack.properties("HubRulePermission")
    assert permission["Principal"] == "events.amazonaws.com"
    assert permission["SourceArn"] == of_the_bus
    store = statements(stack.properties("RuleDeadLetterQueuePolicy")["PolicyDocument"])[0]
    assert of_the_bus in store[4]["ArnEquals"]["aws:SourceArn"]


def test_hub_function_may_take_on_the_reader_role_in_its_organization_and_nothing_else_more():
    def may(stack):
        return statements(stack.properties("AlertFunctionRole")["Policies"][0]["PolicyDocument"])

    more = [statement for statement in may(Stack(HUB)) if statement not in may(Stack())]
    assert more == [
        (
            "Allow",
            ["kms:DescribeKey", "kms:GetKeyLastUsage", "kms:ListGrants", "kms:ListResourceTags"],
            [f"arn:aws:kms:*:{ACCOUNT}:key/*"],
            None,
            None,
        ),
        (
            "Allow",
            ["sts:AssumeRole"],
            [f"arn:aws:iam::*:role/{READER}"],
            None,
            {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION}},
        ),
    ]


def test_hub_watch_function_may_read_who_should_be_heard_and_who_was():
    def may(stack):
        return statements(stack.properties("WatchFunctionRole")["Policies"][0]["PolicyDocument"])

    ours = f"arn:aws:events:{REGION}:{ACCOUNT}:rule"
    assert [statement for statement in may(Stack(HUB)) if statement not in may(Stack())] == [
        (
            "Allow",
            ["events:DescribeRule", "events:ListTargetsByRule"],
            [f"{ours}/<HubEventBus>/*", f"{ours}/kms-key-guard-*"],
            None,
            None,
        ),
        ("Allow", ["logs:FilterLogEvents"], ["<HubHeartbeatLogGroup.Arn>"], None, None),
        (
            "Allow",
            ["cloudformation:DescribeStackSet", "cloudformation:ListStackInstances"],
            ["arn:aws:cloudformation:*:*:stackset/kms-key-guard-spoke:*"],
            None,
            None,
        ),
        (
            "Allow",
            [
                "organizations:DescribeOrganization",
                "organizations:ListAccounts",
                "organizations:ListAccountsForParent",
                "organizations:ListDelegatedAdministrators",
                "organizations:ListOrganizationalUnitsForParent",
            ],
            ["*"],
            None,
            None,
        ),
    ]
    told = Stack(HUB).properties("WatchFunction")["Environment"]["Variables"]
    assert told["HEARTBEAT_LOG_GROUP"] == "<HubHeartbeatLogGroup>"
    assert "HEARTBEAT_LOG_GROUP" not in Stack().properties("WatchFunction")["Environment"]["Variables"]


@pytest.mark.parametrize(
    ("state", "previous", "heard"),
    [
        ("ALARM", "OK", True),
        ("ALARM", "INSUFFICIENT_DATA", True),
        ("OK", "ALARM", True),
        ("OK", "INSUFFICIENT_DATA", False),
        ("INSUFFICIENT_DATA", "ALARM", False),
    ],
)
def test_spokes_alarm_is_forwarded_and_heard_when_it_goes_off_and_when_that_is_over(state, previous, heard):
    alarm = {"alarmName": "kms-key-guard-spoke-undelivered", "state": {"value": state}, "previousState": {"value": previous}}
    event = {
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "account": SPOKE_ACCOUNT,
        "resources": [f"arn:aws:cloudwatch:us-east-1:{SPOKE_ACCOUNT}:alarm:kms-key-guard-spoke-undelivered"],
        "detail": alarm,
    }
    assert matching(spoke().patterns(), event) == (["UndeliveredAlarmRule"] if heard else [])
    assert matching(Stack(HUB).patterns(), event) == (["HubSpokeAlarmRule"] if heard else [])
    others = event | {"detail": alarm | {"alarmName": "orders"}}
    assert matching(Stack(HUB).patterns(), others) == []


def test_every_sample_of_a_hub_is_heard_by_one_rule_of_the_bus_that_it_comes_to():
    rules = Stack(HUB, region=SAMPLES_REGION)
    patterns, buses = rules.patterns(), rules.of_type("AWS::Events::Rule")
    assert len(HUB_ONLY) > 10
    for file in sorted(HUB_ONLY):
        event = json.loads((ROOT / "events" / file).read_text())
        own = event["account"] == ACCOUNT
        on_its_bus = {name: pattern for name, pattern in patterns.items() if ("EventBusName" in buses[name]) is not own}
        assert len(matching(on_its_bus, event)) == 1, file
        if not own:
            assert len(matching(spoke(region=event["region"]).patterns(), event)) == 1, file


@pytest.mark.parametrize(
    ("service", "action", "parameters"),
    [
        ("events", "DeleteEventBus", {"name": "orders"}),
        ("events", "PutPermission", {"eventBusName": "default"}),
        ("events", "CreateEventBus", {"name": "kms-key-guard"}),
        ("cloudformation", "DeleteStackSet", {"stackSetName": "kms-key-guard-spokes-of-somebody-else"}),
        ("cloudformation", "CreateStackInstances", {"stackSetName": "kms-key-guard-spoke"}),
        ("cloudformation", "DeleteStack", {"stackName": "kms-key-guard-organization-test"}),
        ("monitoring", "PutMetricAlarm", {"alarmName": "cpu"}),
        ("monitoring", "PutAlarmMuteRule", {"muteTargets": {"alarmNames": ["cpu"]}}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_done_beside_the_hub_is_not_tampering(service, action, parameters):
    assert matching(Stack(HUB).patterns(), tampering(service, action, parameters)) == []


@pytest.mark.parametrize("stack", [Stack(HUB), Stack(HUB | OPT_INS)], ids=["own topics", "opted in"])
def test_no_topic_lets_eventbridge_in(stack):
    for policy in stack.of_type("AWS::SNS::TopicPolicy").values():
        assert "events.amazonaws.com" not in json.dumps(policy)


def test_heartbeats_go_to_a_log_that_only_their_rule_may_write():
    stack = Stack(HUB)
    (target,) = stack.properties("HubHeartbeatRule")["Targets"]
    assert target["Arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:<HubHeartbeatLogGroup>"
    assert stack.properties("HubHeartbeatLogGroup") == {
        "LogGroupName": "/aws/events/kms-key-guard-heartbeats", "RetentionInDays": 7,
    }  # fmt: skip
    create, put = statements(json.loads(stack.properties("HubHeartbeatLogPolicy")["PolicyDocument"]))
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:<HubHeartbeatLogGroup>:*"
    assert create[:3] == ("Allow", ["logs:CreateLogStream"], [group])
    assert put[:3] == ("Allow", ["logs:PutLogEvents"], [group])
    assert put[4] == {"ArnEquals": {"aws:SourceArn": "<HubHeartbeatRule.Arn>"}}


# ---- The spoke ----------------------------------------------------------------------------------------------------


def test_every_rule_of_a_spoke_forwards_as_one_role_and_keeps_what_it_cannot_deliver():
    for rule in spoke(OPT_INS).of_type("AWS::Events::Rule").values():
        (target,) = rule["Targets"]
        assert target == {
            "Id": "hub",
            "Arn": BUS,
            "RoleArn": "<ForwarderRole.Arn>",
            "DeadLetterConfig": {"Arn": "<UndeliveredQueue.Arn>"},
            "RetryPolicy": {"MaximumEventAgeInSeconds": 900, "MaximumRetryAttempts": 185},
        }


def test_every_name_begins_as_the_scp_and_the_docs_say():
    stack = spoke(OPT_INS, region=REGION)
    names = [
        resource["Properties"].get(key)
        for resource in stack.resources.values()
        for key in ("Name", "RoleName", "QueueName", "AlarmName")
        if key in resource["Properties"]
    ]
    assert len(names) == len([r for r in stack.resources.values() if r["Type"] != "AWS::SQS::QueuePolicy"])
    assert all(name.startswith("kms-key-guard-spoke-") for name in names)
    # Roles belong to no Region: two Regions' stacks must not make the same one.
    elsewhere = spoke(OPT_INS, region="us-east-1").of_type("AWS::IAM::Role").values()
    here = stack.of_type("AWS::IAM::Role").values()
    assert not {role["RoleName"] for role in here} & {role["RoleName"] for role in elsewhere}
    longest = spoke(region="ap-southeast-2").properties("ForwarderRole")["RoleName"]
    assert len(longest) <= 64


def test_forwarder_may_put_events_on_the_hubs_bus_for_the_spokes_rules_only():
    role = spoke().properties("ForwarderRole")
    own_rules = {
        "StringEquals": {"aws:SourceAccount": SPOKE_ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:events:us-east-1:{SPOKE_ACCOUNT}:rule/kms-key-guard-spoke-*"},
    }
    assert statements(role["AssumeRolePolicyDocument"]) == [
        ("Allow", ["sts:AssumeRole"], [], {"Service": "events.amazonaws.com"}, own_rules)
    ]
    (policy,) = role["Policies"]
    assert statements(policy["PolicyDocument"]) == [("Allow", ["events:PutEvents"], [BUS], None, None)]
    assert "ManagedPolicyArns" not in role


def test_reader_role_is_the_hub_functions_of_this_organization_and_reads_metadata_only():
    role = spoke(region=REGION).properties("ReaderRole")
    assert role["RoleName"] == READER
    assert statements(role["AssumeRolePolicyDocument"]) == [
        (
            "Allow",
            ["sts:AssumeRole"],
            [],
            {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            {"ArnEquals": {"aws:PrincipalArn": HUB_ROLE}, "StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}},
        )
    ]
    (policy,) = role["Policies"]
    keys = f"arn:aws:kms:*:{SPOKE_ACCOUNT}:key/*"
    assert statements(policy["PolicyDocument"]) == [
        ("Allow", ["kms:DescribeKey", "kms:GetKeyLastUsage", "kms:ListGrants", "kms:ListResourceTags"], [keys], None, None),
        ("Allow", ["kms:ListAliases"], ["*"], None, None),
    ]
    assert "ManagedPolicyArns" not in role


@pytest.mark.parametrize(
    ("account", "region", "forwards", "reads"),
    [
        (SPOKE_ACCOUNT, REGION, True, True),
        (SPOKE_ACCOUNT, "us-east-1", True, False),
        (ACCOUNT, "us-east-1", True, False),
        # The hub's own rules listen there already.
        (ACCOUNT, REGION, False, False),
    ],
    ids=["home Region", "another Region", "hub's account elsewhere", "beside the hub"],
)
def test_each_place_has_one_set_of_rules_and_each_account_one_reader(account, region, forwards, reads):
    stack = spoke(OPT_INS, account=account, region=region)
    assert set(about_keys(rules(stack))) == (set(about_keys(rules(Stack(OPT_INS)))) if forwards else set())
    assert ("TamperedTrailRule" in stack.resources) is forwards
    assert {"HeartbeatRule", "UndeliveredAlarmRule", "TamperedSpokeRule"} <= set(stack.resources)
    assert ("ReaderRole" in stack.resources) is reads


def test_undelivered_events_are_kept_two_weeks_and_the_first_one_raises_the_alarm():
    stack = spoke()
    queue = stack.properties("UndeliveredQueue")
    assert (queue["MessageRetentionPeriod"], queue["SqsManagedSseEnabled"]) == (1_209_600, True)
    assert "KmsMasterKeyId" not in queue
    store, tls = statements(stack.properties("UndeliveredQueuePolicy")["PolicyDocument"])
    assert store == (
        "Allow",
        ["sqs:SendMessage"],
        ["<UndeliveredQueue.Arn>"],
        {"Service": "events.amazonaws.com"},
        {"ArnLike": {"aws:SourceArn": f"arn:aws:events:us-east-1:{SPOKE_ACCOUNT}:rule/kms-key-guard-spoke-*"}},
    )
    assert tls[0] == "Deny" and tls[4] == {"Bool": {"aws:SecureTransport": "false"}}
    alarm = stack.properties("UndeliveredAlarm")
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    assert (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateNumberOfMessagesVisible", "Maximum")
    assert len(alarm["AlarmDescription"]) <= 1024


def test_alarm_can_be_saved_and_the_queue_stays():
    saved = set(spoke().resources) - set(spoke({"AlarmOnUndelivered": "false"}).resources)
    assert saved == {"UndeliveredAlarm", "UndeliveredAlarmRule"}


@pytest.mark.parametrize(("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")])
def test_every_arn_is_of_the_partition_it_is_deployed_to(partition, region):
    for stack in (
        spoke(partition=partition, region=region, home=region),
        Stack(HUB, partition=partition, region=region),
    ):
        arns = [text for text in strings(stack.resources) if text.startswith("arn:") and not text.startswith("arn:*:")]
        assert len(arns) > 3
        assert [arn for arn in arns if not arn.startswith(f"arn:{partition}:")] == []


def tampering(service, action, parameters, session="admin"):
    issuer = {"sessionContext": {"sessionIssuer": {"type": "Role", "userName": session}}} if session else {}
    return {
        "source": f"aws.{service}",
        "detail-type": "AWS API Call via CloudTrail",
        "account": SPOKE_ACCOUNT,
        "region": "us-east-1",
        "detail": {
            "eventSource": f"{service}.amazonaws.com",
            "eventName": action,
            "requestParameters": parameters,
            "userIdentity": {"type": "AssumedRole", **issuer},
        },
    }


QUEUE_URL = f"https://sqs.us-east-1.amazonaws.com/{SPOKE_ACCOUNT}/kms-key-guard-spoke-undelivered"
TAMPERINGS = [
    ("events", "DisableRule", {"name": "kms-key-guard-spoke-api-call"}),
    ("events", "DeleteRule", {"name": "kms-key-guard-spoke-heartbeat"}),
    ("events", "PutRule", {"name": "kms-key-guard-spoke-tampered", "state": "DISABLED"}),
    ("events", "RemoveTargets", {"rule": "kms-key-guard-spoke-api-call", "ids": ["hub"]}),
    ("sqs", "DeleteQueue", {"queueUrl": QUEUE_URL}),
    ("sqs", "PurgeQueue", {"queueUrl": QUEUE_URL}),
    ("monitoring", "DeleteAlarms", {"alarmNames": ["cpu", "kms-key-guard-spoke-undelivered"]}),
    ("iam", "DeleteRolePolicy", {"roleName": "kms-key-guard-spoke-forwarder-us-east-1", "policyName": "forward"}),
    ("iam", "UpdateAssumeRolePolicy", {"roleName": READER}),
    ("cloudformation", "DeleteStack", {"stackName": STACK_OF_THE_SET}),
    ("cloudformation", "DeleteStack", {"stackName": "kms-key-guard-spoke"}),
    ("cloudformation", "DeleteStack", {"stackName": f"arn:aws:cloudformation:us-east-1:{SPOKE_ACCOUNT}:stack/kms-key-guard-spoke/0a1b"}),
    ("cloudformation", "DeleteStack", {"stackName": STACK_OF_THE_SET.split("/")[1]}),
    ("monitoring", "PutMetricAlarm", {"alarmName": "kms-key-guard-spoke-undelivered"}),
    ("monitoring", "PutAlarmMuteRule", {"muteTargets": {"alarmNames": ["cpu", "kms-key-guard-spoke-undelivered"]}}),
]


def is_told(event):
    pattern = next(rule["EventPattern"] for name, rule in spoke().of_type("AWS::Events::Rule").items() if name == "TamperedSpokeRule")
    return local_aws_matches(pattern, event)


@pytest.mark.parametrize(("service", "action", "parameters"), TAMPERINGS, ids=lambda value: str(value)[:40])
def test_whoever_touches_the_spoke_is_told_of_unless_it_is_stack_sets(service, action, parameters):
    assert is_told(tampering(service, action, parameters))
    assert is_told(tampering(service, action, parameters, session=None))
    assert not is_told(tampering(service, action, parameters, session="stacksets-exec-0123456789abcdef"))
    failed = tampering(service, action, parameters)
    failed["detail"]["errorCode"] = "AccessDenied"
    assert not is_told(failed)


@pytest.mark.parametrize(
    ("service", "action", "parameters"),
    [
        ("events", "DisableRule", {"name": "nightly"}),
        ("events", "DescribeRule", {"name": "kms-key-guard-spoke-api-call"}),
        ("sqs", "DeleteQueue", {"queueUrl": QUEUE_URL.replace("kms-key-guard-spoke-undelivered", "orders")}),
        ("monitoring", "DeleteAlarms", {"alarmNames": ["cpu"]}),
        ("monitoring", "PutMetricAlarm", {"alarmName": "cpu"}),
        ("monitoring", "PutAlarmMuteRule", {"muteTargets": {"alarmNames": ["cpu"]}}),
        ("iam", "DeleteRole", {"roleName": "app"}),
        ("cloudformation", "DeleteStack", {"stackName": "app"}),
        ("cloudformation", "DeleteStack", {"stackName": f"arn:aws:cloudformation:us-east-1:{SPOKE_ACCOUNT}:stack/app/0a1b"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_others_do_elsewhere_is_not_tampering(service, action, parameters):
    assert not is_told(tampering(service, action, parameters))


def test_patterns_fit_what_eventbridge_takes():
    for stack in (Stack(HUB | OPT_INS), spoke(OPT_INS)):
        assert max(map(len, stack.patterns().values())) <= 2048


# ---- The rollout --------------------------------------------------------------------------------------------------


def test_rollout_is_service_managed_and_reaches_accounts_that_join():
    spokes = rollout().properties("Spokes")
    assert spokes["PermissionModel"] == "SERVICE_MANAGED"
    assert spokes["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": False}
    assert spokes["CallAs"] == "DELEGATED_ADMIN"
    assert rollout({"CallAs": "SELF"}).properties("Spokes")["CallAs"] == "SELF"
    assert spokes["StackInstancesGroup"] == [
        {
            "DeploymentTargets": {"OrganizationalUnitIds": ["ou-ab12-11112222", "r-ab12"]},
            "Regions": ["eu-central-1", "us-east-1"],
        }
    ]
    assert spokes["OperationPreferences"] == {
        "RegionConcurrencyType": "PARALLEL",
        # STRICT_FAILURE_TOLERANCE, the default, would work on at most one more account at a time than may fail.
        "ConcurrencyMode": "SOFT_FAILURE_TOLERANCE",
        "MaxConcurrentPercentage": "25",
        "FailureTolerancePercentage": "10",
    }
    # sam deploy uploads the file named there.
    assert (ROOT / "stackset" / spokes["TemplateURL"]).resolve() == ROOT / "stackset/spoke.yaml"


def test_rollout_gives_the_spoke_every_parameter_and_the_rights_it_needs():
    spokes = rollout(OPT_INS).properties("Spokes")
    given = {p["ParameterKey"]: p["ParameterValue"] for p in spokes["Parameters"]}
    assert given == {
        **HUB_IS,
        "HubEventBusName": "kms-key-guard",
        "HomeRegion": "eu-central-1",
        "AlarmOnUndelivered": "true",
        **OPT_INS,
    }
    assert set(given) == set(source("stackset/spoke.yaml")["Parameters"])
    assert spokes["Capabilities"] == ["CAPABILITY_NAMED_IAM"]


# ---- The service control policy -----------------------------------------------------------------------------------

SCP = json.loads((ROOT / "stackset/scp.json").read_text())
ADMINISTRATOR = f"arn:aws:iam::{SPOKE_ACCOUNT}:role/admin"
STACK_SETS = f"arn:aws:iam::{SPOKE_ACCOUNT}:role/stacksets-exec-0123456789abcdef"
# What undoes a spoke, by the type of resource.
UNDOING = {
    "AWS::Events::Rule": ["events:DisableRule", "events:DeleteRule", "events:RemoveTargets", "events:PutTargets", "events:PutRule"],
    "AWS::IAM::Role": ["iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:AttachRolePolicy"],
    "AWS::SQS::Queue": ["sqs:DeleteQueue", "sqs:PurgeQueue", "sqs:SetQueueAttributes"],
    "AWS::CloudWatch::Alarm": ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:SetAlarmState"],
}  # fmt: skip
ARN = {
    "AWS::Events::Rule": ("events", "us-east-1", "rule/", "Name"),
    "AWS::IAM::Role": ("iam", "", "role/", "RoleName"),
    "AWS::SQS::Queue": ("sqs", "us-east-1", "", "QueueName"),
    "AWS::CloudWatch::Alarm": ("cloudwatch", "us-east-1", "alarm:", "AlarmName"),
}


def denied(principal, action, resource):
    context = EvalContext(principal, "AssumedRole", SPOKE_ACCOUNT, action, resource, "us-east-1")
    return evaluate(context, [parse_policy_document(SCP)]).decision == "Deny"


def undoings():
    for resource in spoke(OPT_INS, region=REGION).resources.values():
        if resource["Type"] in ARN:
            service, region, prefix, name = ARN[resource["Type"]]
            arn = f"arn:aws:{service}:{region}:{SPOKE_ACCOUNT}:{prefix}{resource['Properties'][name]}"
            yield from ((action, arn) for action in UNDOING[resource["Type"]])
    for action in ("DeleteStack", "UpdateStack", "CreateChangeSet", "ExecuteChangeSet", "SetStackPolicy"):
        yield f"cloudformation:{action}", STACK_OF_THE_SET


@pytest.mark.parametrize(("action", "resource"), list(undoings()), ids=lambda value: value.rsplit(":", 1)[-1])
def test_scp_keeps_everyone_but_stack_sets_from_the_spoke(action, resource):
    assert denied(ADMINISTRATOR, action, resource)
    assert denied(f"arn:aws:iam::{SPOKE_ACCOUNT}:root", action, resource)
    assert not denied(STACK_SETS, action, resource)


@pytest.mark.parametrize("principal", [ADMINISTRATOR, STACK_SETS])
def test_scp_lets_nobody_pose_as_stack_sets(principal):
    for action in ("iam:CreateRole", "iam:UpdateAssumeRolePolicy", "iam:PutRolePolicy", "iam:DeleteRole"):
        assert denied(principal, action, STACK_SETS)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("events:PutRule", f"arn:aws:events:us-east-1:{SPOKE_ACCOUNT}:rule/nightly"),
        ("iam:CreateRole", f"arn:aws:iam::{SPOKE_ACCOUNT}:role/app"),
        ("sqs:DeleteQueue", f"arn:aws:sqs:us-east-1:{SPOKE_ACCOUNT}:orders"),
        ("cloudwatch:PutMetricAlarm", f"arn:aws:cloudwatch:us-east-1:{SPOKE_ACCOUNT}:alarm:cpu"),
        ("cloudformation:DeleteStack", f"arn:aws:cloudformation:us-east-1:{SPOKE_ACCOUNT}:stack/app/0a1b"),
        # Whoever mends the cause looks at what lies in the queue, and takes it out.
        ("sqs:ReceiveMessage", f"arn:aws:sqs:us-east-1:{SPOKE_ACCOUNT}:kms-key-guard-spoke-undelivered"),
        ("sqs:DeleteMessage", f"arn:aws:sqs:us-east-1:{SPOKE_ACCOUNT}:kms-key-guard-spoke-undelivered"),
        ("events:DescribeRule", f"arn:aws:events:us-east-1:{SPOKE_ACCOUNT}:rule/kms-key-guard-spoke-api-call"),
        ("cloudformation:DescribeStacks", STACK_OF_THE_SET),
    ],
)
def test_scp_leaves_the_rest_of_the_account_alone(action, resource):
    assert not denied(ADMINISTRATOR, action, resource)


def test_scp_fits_denies_only_and_is_understood(tmp_path):
    assert len((ROOT / "stackset/scp.json").read_text()) <= 5_120
    assert {statement["Effect"] for statement in SCP["Statement"]} == {"Deny"}
    # The nearest type whose policy cfn-lint reads: like an SCP it names no principal.
    resource = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": SCP}}
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Policy": resource}}))
    assert cfn_lint(template) == []


def test_scp_protects_the_stacks_of_the_stack_set():
    name = rollout().properties("Spokes")["StackSetName"]
    assert f"arn:*:cloudformation:*:*:stack/StackSet-{name}-*/*" in SCP["Statement"][0]["Resource"]
