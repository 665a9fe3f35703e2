"""Who may do what, as data: a permission more, or one that reaches further, fails here."""

import re

import pytest

from deployed import ACCOUNT, EXISTING_TOPICS, OPTED_IN, REGION, ROOT, TOPICS_KEY, Stack, source, statements, strings

ACCOUNT_ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
FUNCTION_ROLES = {"AWS": ["<AlertFunctionRole.Arn>", "<WatchFunctionRole.Arn>"]}
NOT_TLS = {"Bool": {"aws:SecureTransport": "false"}}


def role_may(topics, partition="aws", region=REGION):
    """(actions, resources, condition): all that the alert function may do."""
    return [
        (["sns:Publish"], sorted(topics), None),
        (["sqs:SendMessage"], ["<AlertFailureQueue.Arn>"], None),
        (
            ["kms:DescribeKey", "kms:GetKeyLastUsage", "kms:ListGrants", "kms:ListResourceTags"],
            [f"arn:{partition}:kms:{region}:{ACCOUNT}:key/*"],
            None,
        ),
        # KMS checks ListAliases against no resource, so nothing narrower would work.
        (["kms:ListAliases"], ["*"], None),
        (["logs:CreateLogStream", "logs:PutLogEvents"], ["<AlertLogGroup.Arn>"], None),
    ]


OWN_TOPICS = ["<AlertsTopic>", "<FindingsTopic>"]
CHAT = "<ChatTopicNotifications>"
USE_OF_THE_TOPICS_KEY = (
    ["kms:Decrypt", "kms:GenerateDataKey*"],
    [TOPICS_KEY],
    {"StringEquals": {"kms:ViaService": [f"sns.{REGION}.amazonaws.com", f"sns.{REGION}.amazonaws.com"]}},
)
PEOPLE, MACHINES = EXISTING_TOPICS["ExistingAlertsTopicArn"], EXISTING_TOPICS["ExistingFindingsTopicArn"]


def assert_may(role, expected):
    """The role's one policy allows this, and says nothing else."""
    (policy,) = role["Policies"]
    may = [
        (actions, resources, condition)
        for effect, actions, resources, principal, condition in statements(policy["PolicyDocument"])
        if (effect, principal) == ("Allow", None)
    ]
    assert may == expected
    assert len(may) == len(policy["PolicyDocument"]["Statement"])


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (Stack(), role_may(OWN_TOPICS)),
        (Stack(OPTED_IN), role_may([*OWN_TOPICS, CHAT])),
        (Stack(EXISTING_TOPICS), [*role_may([PEOPLE, MACHINES]), USE_OF_THE_TOPICS_KEY]),
        (Stack({"ExistingAlertsTopicArn": PEOPLE}), role_may([PEOPLE, "<FindingsTopic>"])),
        (Stack({"ExistingFindingsTopicArn": MACHINES}), role_may(["<AlertsTopic>", MACHINES])),
        (
            Stack(partition="aws-cn", region="cn-north-1", url_suffix="amazonaws.com.cn"),
            role_may(OWN_TOPICS, "aws-cn", "cn-north-1"),
        ),
    ],
    ids=["default", "opted in", "existing topics and key", "existing alerts", "existing findings", "China"],
)
def test_the_function_may_publish_store_failures_read_key_metadata_and_log(stack, expected):
    role = stack.properties("AlertFunctionRole")
    assert_may(role, expected)
    assert "ManagedPolicyArns" not in role


def test_only_lambda_can_take_the_role_and_only_the_function_has_it():
    stack = Stack(OPTED_IN)
    trust = stack.properties("AlertFunctionRole")["AssumeRolePolicyDocument"]
    assert statements(trust) == [("Allow", ["sts:AssumeRole"], [], {"Service": "lambda.amazonaws.com"}, None)]
    functions = stack.of_type("AWS::Lambda::Function")
    assert {name: f["Role"] for name, f in functions.items()} == {
        "AlertFunction": "<AlertFunctionRole.Arn>",
        "WatchFunction": "<WatchFunctionRole.Arn>",
    }


def watch_may(topics, partition="aws", region=REGION):
    """All that the watch function may do: publish, store failures, and read."""

    def here(service, what):
        return f"arn:{partition}:{service}:{region}:{ACCOUNT}:{what}"

    return [
        (["sns:Publish"], sorted(topics), None),
        (["sqs:SendMessage"], ["<WatchFailureQueue.Arn>"], None),
        (["sqs:DeleteMessage", "sqs:ReceiveMessage"], ["<SelfCheckQueue.Arn>"], None),
        (["kms:DescribeKey", "kms:GetKeyLastUsage", "kms:ListResourceTags"], [here("kms", "key/*")], None),
        # None of these is authorized against a resource.
        (
            [
                "cloudtrail:DescribeTrails",
                "cloudwatch:DescribeAlarmsForMetric",
                "kms:ListAliases",
                "kms:ListKeys",
                "logs:TestMetricFilter",
            ],
            ["*"],
            None,
        ),
        # An organization's trail is another account's.
        (["cloudtrail:GetEventSelectors", "cloudtrail:GetTrailStatus"], [f"arn:{partition}:cloudtrail:*:*:trail/*"], None),
        (["cloudformation:DescribeStacks", "cloudformation:GetTemplate", "cloudformation:ListStackResources"],
         [here("cloudformation", "stack/kms-key-guard/*")], None),
        (["events:DescribeRule", "events:ListTargetsByRule"], [here("events", "rule/kms-key-guard-*")], None),
        (["scheduler:GetSchedule"], [here("scheduler", "schedule/default/kms-key-guard-*")], None),
        (
            [
                "lambda:GetFunctionConcurrency",
                "lambda:GetFunctionConfiguration",
                "lambda:GetFunctionEventInvokeConfig",
                "lambda:GetPolicy",
            ],
            [here("lambda", "function:kms-key-guard-*")],
            None,
        ),
        (["lambda:GetEventSourceMapping"], [here("lambda", "event-source-mapping:*")], None),
        (
            ["sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"],
            [f"arn:{partition}:sns:*:{ACCOUNT}:*"],
            None,
        ),
        (
            ["sqs:GetQueueAttributes"],
            [
                "<AlertFailureQueue.Arn>",
                "<ProofQueue.Arn>",
                "<RuleDeadLetterQueue.Arn>",
                "<ScheduleDeadLetterQueue.Arn>",
                "<SelfCheckQueue.Arn>",
                "<WatchFailureQueue.Arn>",
            ],
            None,
        ),
        (["cloudwatch:DescribeAlarms"], [f"arn:{partition}:cloudwatch:*:{ACCOUNT}:alarm:*"], None),
        (["logs:DescribeMetricFilters"], [f"arn:{partition}:logs:*:{ACCOUNT}:log-group:*"], None),
        (["logs:CreateLogStream", "logs:FilterLogEvents", "logs:PutLogEvents"], ["<WatchLogGroup.Arn>"], None),
        (["logs:FilterLogEvents"], ["<AlertLogGroup.Arn>"], None),
    ]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (Stack(), watch_may(OWN_TOPICS)),
        (Stack({"ChatTopic": "true"}), watch_may([*OWN_TOPICS, CHAT])),
        (Stack(EXISTING_TOPICS), [*watch_may([PEOPLE, MACHINES]), USE_OF_THE_TOPICS_KEY]),
        (
            Stack(partition="aws-cn", region="cn-north-1", url_suffix="amazonaws.com.cn"),
            watch_may(OWN_TOPICS, "aws-cn", "cn-north-1"),
        ),
    ],
    ids=["default", "chat", "existing topics and key", "China"],
)
def test_the_watch_function_may_publish_store_failures_and_read_what_its_checks_read(stack, expected):
    role = stack.properties("WatchFunctionRole")
    assert_may(role, expected)
    trust = role["AssumeRolePolicyDocument"]
    assert statements(trust) == [("Allow", ["sts:AssumeRole"], [], {"Service": "lambda.amazonaws.com"}, None)]
    assert "ManagedPolicyArns" not in role


def test_schedules_may_start_the_watch_function_and_store_what_they_could_not():
    role = Stack().properties("ScheduleRole")
    (policy,) = role["Policies"]
    assert statements(policy["PolicyDocument"]) == [
        ("Allow", ["lambda:InvokeFunction"], ["<WatchFunction.Arn>"], None, None),
        ("Allow", ["sqs:SendMessage"], ["<ScheduleDeadLetterQueue.Arn>"], None, None),
    ]
    of_this_account = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    trust = role["AssumeRolePolicyDocument"]
    assert statements(trust) == [
        ("Allow", ["sts:AssumeRole"], [], {"Service": "scheduler.amazonaws.com"}, of_this_account)
    ]


@pytest.mark.parametrize("parameters", [{}, OPTED_IN, EXISTING_TOPICS], ids=["default", "opted in", "existing topics"])
def test_nothing_else_in_the_stack_grants_anything(parameters):
    granting = {
        name
        for name, resource in Stack(parameters).resources.items()
        if resource["Type"].startswith("AWS::IAM::") or "Policy" in resource["Type"].rsplit("::", 1)[1]
    }
    own_topics = {"AlertsTopicPolicy", "FindingsTopicPolicy"} if parameters is not EXISTING_TOPICS else set()
    if parameters is OPTED_IN:
        own_topics.add("ChatTopicPolicy")
    assert granting == {
        "AlertFunctionRole",
        "AlertFailureQueuePolicy",
        "ProofQueuePolicy",
        "RuleDeadLetterQueuePolicy",
        "ScheduleRole",
        "SelfCheckQueuePolicy",
        "WatchFunctionRole",
        "WatchQueuesPolicy",
    } | own_topics


def test_every_rule_may_invoke_the_function_and_nobody_else():
    for parameters in ({}, OPTED_IN):
        stack = Stack(parameters)
        # The one that lets an alarm start the watch function is another's: test_failure_paths.py.
        permissions = [p for p in stack.of_type("AWS::Lambda::Permission").values() if p["FunctionName"] != "<WatchFunction>"]
        assert sorted(p["SourceArn"] for p in permissions) == sorted(f"<{rule}.Arn>" for rule in stack.patterns())
        for permission in permissions:
            assert permission["FunctionName"] == "<AlertFunction>"
            assert permission["Action"] == "lambda:InvokeFunction"
            assert permission["Principal"] == "events.amazonaws.com"


def test_permissions_in_the_documents_are_those_of_the_roles():
    granted = Stack(EXISTING_TOPICS | {"OrganizationId": "o-a1b2c3d4e5"}).resources
    roles = {f"(`{name}`)": [granted[name]] for name in ("AlertFunctionRole", "WatchFunctionRole", "ScheduleRole")}
    spoke = source("stackset/spoke.yaml")["Resources"].values()
    roles["A spoke of an organization"] = [resource for resource in spoke if resource["Type"] == "AWS::IAM::Role"]
    sections = (ROOT / "docs/permissions.md").read_text().split("\n## ")
    for head, resources in roles.items():
        (section,) = [section for section in sections if head in section.partition("\n")[0]]
        documented = set(re.findall(r"`([a-z]+:[A-Z][A-Za-z]+\*?)`", section))
        policies = [policy["PolicyDocument"] for role in resources for policy in role["Properties"]["Policies"]]
        assert documented == {action for policy in policies for _, actions, *_ in statements(policy) for action in actions}, head


def account_subscribes(topic):
    actions = ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:Subscribe"]
    return ("Allow", actions, [topic], ACCOUNT_ROOT, None)


def tls_only(topic):
    return ("Deny", ["sns:Publish", "sns:Subscribe"], [topic], "*", NOT_TLS)


@pytest.mark.parametrize(("policy", "topic"), [("AlertsTopicPolicy", "<AlertsTopic>"), ("ChatTopicPolicy", CHAT)])
def test_topic_for_people_takes_messages_from_the_guard_and_this_accounts_alarms_over_tls(policy, topic):
    policy = Stack({"ChatTopic": "true"}).properties(policy)
    assert policy["Topics"] == [topic]
    of_this_account = {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*"},
    }
    assert statements(policy["PolicyDocument"]) == [
        ("Allow", ["sns:Publish"], [topic], FUNCTION_ROLES, None),
        ("Allow", ["sns:Publish"], [topic], {"Service": "cloudwatch.amazonaws.com"}, of_this_account),
        account_subscribes(topic),
        tls_only(topic),
    ]


def test_findings_topic_takes_messages_from_the_guard_alone_over_tls():
    policy = Stack().properties("FindingsTopicPolicy")
    assert policy["Topics"] == ["<FindingsTopic>"]
    assert statements(policy["PolicyDocument"]) == [
        ("Allow", ["sns:Publish"], ["<FindingsTopic>"], FUNCTION_ROLES, None),
        account_subscribes("<FindingsTopic>"),
        tls_only("<FindingsTopic>"),
    ]


@pytest.mark.parametrize("parameters", [{}, OPTED_IN], ids=["default", "opted in"])
def test_dead_letter_queue_takes_messages_from_the_rules_alone_over_tls(parameters):
    stack = Stack(parameters)
    policy = stack.properties("RuleDeadLetterQueuePolicy")
    assert policy["Queues"] == ["<RuleDeadLetterQueue>"]
    store, tls = statements(policy["PolicyDocument"])
    condition = store[4]["ArnEquals"]["aws:SourceArn"]
    assert store[:4] == (
        "Allow", ["sqs:SendMessage"], ["<RuleDeadLetterQueue.Arn>"], {"Service": "events.amazonaws.com"},
    )
    assert store[4] == {"ArnEquals": {"aws:SourceArn": condition}}
    assert sorted(condition) == sorted(f"<{rule}.Arn>" for rule in stack.patterns())
    assert tls == ("Deny", ["sqs:*"], ["<RuleDeadLetterQueue.Arn>"], "*", NOT_TLS)


def test_failure_queue_is_reached_over_tls_only():
    policy = Stack().properties("AlertFailureQueuePolicy")
    assert policy["Queues"] == ["<AlertFailureQueue>"]
    assert statements(policy["PolicyDocument"]) == [("Deny", ["sqs:*"], ["<AlertFailureQueue.Arn>"], "*", NOT_TLS)]


def test_the_watch_functions_queues_are_reached_over_tls_only():
    policy = Stack().properties("WatchQueuesPolicy")
    assert policy["Queues"] == ["<ScheduleDeadLetterQueue>", "<WatchFailureQueue>"]
    queues = ["<ScheduleDeadLetterQueue.Arn>", "<WatchFailureQueue.Arn>"]
    assert statements(policy["PolicyDocument"]) == [("Deny", ["sqs:*"], queues, "*", NOT_TLS)]


@pytest.mark.parametrize(("parameters", "topics"), [({}, OWN_TOPICS), (EXISTING_TOPICS, [PEOPLE, MACHINES])], ids=["own", "existing"])
def test_rules_alone_start_self_checks_and_topics_alone_fill_the_proof_queue(parameters, topics):
    rules = {"ArnLike": {"aws:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/kms-key-guard-rule.*"}}
    senders = {"SelfCheckQueue": ("events.amazonaws.com", rules), "ProofQueue": ("sns.amazonaws.com", {"ArnEquals": {"aws:SourceArn": topics}})}
    for name, (service, condition) in senders.items():
        policy = Stack(parameters).properties(f"{name}Policy")
        assert policy["Queues"] == [f"<{name}>"]
        assert statements(policy["PolicyDocument"]) == [
            ("Allow", ["sqs:SendMessage"], [f"<{name}.Arn>"], {"Service": service}, condition),
            ("Deny", ["sqs:*"], [f"<{name}.Arn>"], "*", NOT_TLS),
        ]


def test_nothing_on_the_way_of_an_alert_depends_on_a_customer_key():
    stack = Stack(OPTED_IN)
    for properties in stack.of_type("AWS::SNS::Topic").values():
        assert "KmsMasterKeyId" not in properties
    for properties in stack.of_type("AWS::SQS::Queue").values():
        assert properties["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in properties
    for function in ("AlertFunction", "WatchFunction"):
        assert "KmsKeyArn" not in stack.properties(function)
    for log_group in ("AlertLogGroup", "WatchLogGroup"):
        assert "KmsKeyId" not in stack.properties(log_group)
    for schedule in stack.of_type("AWS::Scheduler::Schedule").values():
        assert "KmsKeyArn" not in schedule


@pytest.mark.parametrize(
    ("partition", "region", "url_suffix"),
    [("aws-cn", "cn-north-1", "amazonaws.com.cn"), ("aws-us-gov", "us-gov-west-1", "amazonaws.com")],
)
def test_every_arn_is_of_the_partition_it_is_deployed_to(partition, region, url_suffix):
    stack = Stack({"AlertEmail": "kms-alerts@example.com"} | dict.fromkeys(("ReportDeniedAttempts", "ReportLostKeyUse"), "true"),
                  partition=partition, region=region, url_suffix=url_suffix)
    arns = [text for text in strings([stack.resources, stack.outputs]) if text.startswith("arn:")]
    assert len(arns) > 3
    assert [arn for arn in arns if not arn.startswith(f"arn:{partition}:")] == []
