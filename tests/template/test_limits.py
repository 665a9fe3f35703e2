"""What AWS limits, and what the templates take of it at most: every setting at its longest, everything switched on.

The table in docs/architecture.md says how much that is; UPDATE_LIMITS=1 writes it anew.
"""

import itertools
import json
import os
import re

import pytest

from deployed import ROOT, Stack, source
from test_patterns import LONGEST_STACK_NAME

DOCUMENT = ROOT / "docs/architecture.md"
MARK = "<!-- by tests/template/test_limits.py -->\n"
# Sizes in the table are rounded up to this, so that a changed word doesn't change it.
STEP = 500

AWS = "https://docs.aws.amazon.com/"
EVENTBRIDGE = AWS + "eventbridge/latest/userguide/eb-quota.html"
LAMBDA = AWS + "lambda/latest/dg/gettingstarted-limits.html"
IAM = AWS + "IAM/latest/UserGuide/reference_iam-quotas.html"
SQS = AWS + "AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html"
SNS = AWS + "sns/latest/dg/sns-access-policy-language-api-permissions-reference.html"
LOGS = AWS + "AmazonCloudWatchLogs/latest/APIReference/API_PutResourcePolicy.html"

GUARD, HUB, SPOKE = "guard", "hub", "spoke"
FAR = {"partition": "aws-us-gov", "region": "us-gov-west-1"}


def longest(parameter):
    """The longest value that a parameter takes; of an organization's id or a key's ARN the pattern says how long it is."""
    if "AllowedValues" in parameter:
        return max(map(str, parameter["AllowedValues"]), key=len)
    if parameter["Type"] == "Number":
        return max(str(parameter["MinValue"]), str(parameter["MaxValue"]), key=len)
    return parameter["MaxLength"] * "x" if "MaxLength" in parameter else None


def guards(organization):
    """The template with everything switched on: own topics or others', opt-ins (`false` is the longer word) on or off."""
    parameters = source()["Parameters"]
    most = {name: value for name in parameters if (value := longest(parameters[name]))} | {
        "CloudTrailLogGroupName": 512 * "x",
        "CreateDashboard": "true",
        "OrganizationId": organization,
    }
    topics = {"ExistingTopicsKmsKeyArn": f"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-{32 * '0'}"}
    none = dict.fromkeys(("ExistingAlertsTopicArn", "ExistingFindingsTopicArn", "ExistingTopicsKmsKeyArn"), "")
    for own, opted_in in itertools.product((topics, none), ("true", "false")):
        opt_ins = dict.fromkeys(("ReportDeniedAttempts", "ReportLostKeyUse"), opted_in)
        yield Stack(most | own | opt_ins, name=LONGEST_STACK_NAME, **FAR)


def spoke(**where):
    parameters = {
        "HubAccountId": "123456789012",
        "HubRegion": "us-gov-east-1",
        "HubEventBusName": LONGEST_STACK_NAME,
        "HubRoleName": 64 * "r",
        "OrganizationId": "o-" + 32 * "a",
        "HomeRegion": "us-gov-west-1",
        "ReportDeniedAttempts": "true",
        "ReportLostKeyUse": "true",
    }
    return Stack(parameters | where, file="stackset/spoke.yaml", **FAR)


STACKS = {
    GUARD: list(guards("")),
    HUB: list(guards("o-" + 32 * "a")),
    SPOKE: [spoke()],
}
# A rollout brings a spoke to the hub's own account and Region too.
BESIDE_THE_HUB = spoke(HubAccountId="111122223333", HubRegion="us-gov-west-1")


def many(value):
    return value if isinstance(value, list) else [value]


def compact(document):
    return json.dumps(document, separators=(",", ":"))


def without_blanks(document):
    """As IAM counts."""
    return len(re.sub(r"\s", "", compact(document)))


def resources(stack, kind):
    return {name: stack.deployed(properties) for name, properties in stack.of_type(kind).items()}


def has_wildcard(pattern):
    if isinstance(pattern, dict):
        return "wildcard" in pattern or any(map(has_wildcard, pattern.values()))
    return isinstance(pattern, list) and any(map(has_wildcard, pattern))


def wildcards(*stacks):
    """How many rules have one, by bus."""
    by_bus = {"default": 0, "hub's": 0}
    for stack in stacks:
        for rule, pattern in stack.patterns().items():
            bus = "hub's" if "EventBusName" in stack.properties(rule) else "default"
            by_bus[bus] += has_wildcard(json.loads(pattern))
    return by_bus


def on_the_default_bus(stack):
    beside = [BESIDE_THE_HUB] if "HubEventBus" in stack.resources else []
    return [wildcards(stack, *beside)["default"]]


def on_the_hubs_bus(stack):
    return [wildcards(stack)["hub's"]]


def log_policies(stack):
    """Those of a log group of their own don't count, and ours is of the whole Region."""
    return [len([p for p in stack.of_type("AWS::Logs::ResourcePolicy").values() if "ResourceArn" not in p])]


def log_policy_sizes(stack):
    return [len(policy["PolicyDocument"]) for policy in resources(stack, "AWS::Logs::ResourcePolicy").values()]


def bus_policy_sizes(stack):
    policies = resources(stack, "AWS::Events::EventBusPolicy").values()
    return [len(compact({"Version": "2012-10-17", "Statement": [p["Statement"] | {"Sid": p["StatementId"]}]})) for p in policies]


def role_policy_sizes(stack):
    roles = resources(stack, "AWS::IAM::Role").values()
    return [sum(without_blanks(policy["PolicyDocument"]) for policy in role["Policies"]) for role in roles]


def trust_policy_sizes(stack):
    return [without_blanks(role["AssumeRolePolicyDocument"]) for role in resources(stack, "AWS::IAM::Role").values()]


def queue_policies(stack):
    return [policy["PolicyDocument"] for policy in resources(stack, "AWS::SQS::QueuePolicy").values()]


def topic_policies(stack):
    return [policy["PolicyDocument"] for policy in resources(stack, "AWS::SNS::TopicPolicy").values()]


def queue_policy_sizes(stack):
    return [len(compact(policy)) for policy in queue_policies(stack)]


def topic_policy_sizes(stack):
    return [len(compact(policy)) for policy in topic_policies(stack)]


def function_policy_sizes(stack):
    """The policy that Lambda makes of the permissions, with the statement ids that CloudFormation gives."""
    statements = {name: [] for name in stack.of_type("AWS::Lambda::Function")}
    for name, permission in stack.of_type("AWS::Lambda::Permission").items():
        function = permission["FunctionName"].strip("<>")
        statements[function].append({
            "Sid": f"{LONGEST_STACK_NAME}-{name}-{12 * 'A'}",
            "Effect": "Allow",
            "Principal": {"Service": permission["Principal"]},
            "Action": permission["Action"],
            "Resource": stack.physical(function, "Arn"),
            "Condition": {"ArnLike": {"AWS:SourceArn": stack.deployed(permission["SourceArn"])}},
        })  # fmt: skip
    return [len(compact({"Version": "2012-10-17", "Id": "default", "Statement": made})) for made in statements.values()]


def environment_sizes(stack):
    """Lambda measures the variables as one JSON text, as its error message shows."""
    functions = resources(stack, "AWS::Lambda::Function").values()
    return [len(compact(function["Environment"]["Variables"]).encode()) for function in functions]


# What, how much AWS takes, where it says so, what is counted, and whether it is a size.
LIMITS = [
    ("rules with wildcards on the default bus, shared with all others of the account and Region", 30, EVENTBRIDGE, on_the_default_bus, False),
    ("rules with wildcards on the hub's own bus", 30, EVENTBRIDGE, on_the_hubs_bus, False),
    ("resource policies of CloudWatch Logs, shared likewise", 10, LOGS, log_policies, False),
    ("characters of one of them", 5_120, LOGS, log_policy_sizes, True),
    ("characters of the hub's bus policy", 10_240, EVENTBRIDGE, bus_policy_sizes, True),
    ("characters of a role's inline policies, without blanks", 10_240, IAM, role_policy_sizes, True),
    ("characters of a role's trust policy, without blanks", 2_048, IAM, trust_policy_sizes, True),
    ("bytes of a queue's policy", 8_192, SQS, queue_policy_sizes, True),
    ("bytes of a topic's policy", 30 * 1024, SNS, topic_policy_sizes, True),
    ("bytes of a function's resource policy", 20 * 1024, LAMBDA, function_policy_sizes, True),
    ("bytes of a function's environment variables", 4 * 1024, LAMBDA, environment_sizes, True),
]  # fmt: skip


def most(count, where):
    return max((value for stack in STACKS[where] for value in count(stack)), default=0)


@pytest.mark.parametrize("where", STACKS)
@pytest.mark.parametrize(("limit", "count"), [(limit, count) for _, limit, _, count, _ in LIMITS], ids=[what for what, *_ in LIMITS])
def test_no_more_is_taken_than_there_is(limit, count, where):
    assert most(count, where) <= limit


def test_the_longest_variables_leave_some_bytes_to_what_lambda_may_count_otherwise():
    assert max(most(environment_sizes, where) for where in (GUARD, HUB)) <= 4_000


def test_every_limit_is_reached_for_somewhere():
    """What counts nothing anywhere would hold whatever is written."""
    assert [what for what, _, _, count, _ in LIMITS if not any(most(count, where) for where in STACKS)] == []


def test_every_setting_that_functions_read_has_a_longest_value():
    text = json.dumps([r["Properties"]["Environment"] for r in source()["Resources"].values() if r["Type"] == "AWS::Serverless::Function"])
    parameters = source()["Parameters"]
    read = {name for name in parameters if f'"{name}"' in text}
    assert {"ExpectedPrincipals", "ReminderDays"} < read
    assert [name for name in read if longest(parameters[name]) is None] == []


@pytest.mark.parametrize("where", STACKS)
def test_queue_policies_have_as_many_parts_as_sqs_takes(where):
    """20 statements, 10 conditions, 50 principals, 7 actions a statement."""
    for policy in (policy for stack in STACKS[where] for policy in queue_policies(stack)):
        statements = policy["Statement"]
        conditions = [key for s in statements for keys in s.get("Condition", {}).values() for key in keys]
        principals = [p for s in statements for p in (many(s["Principal"]) if isinstance(s["Principal"], str) else sum(map(many, s["Principal"].values()), []))]  # fmt: skip
        assert len(statements) <= 20
        assert len(conditions) <= 10
        assert len(principals) <= 50
        assert max(len(many(s["Action"])) for s in statements) <= 7


@pytest.mark.parametrize("where", [GUARD, HUB])
def test_topic_policies_are_of_one_topic_and_name_each_statement(where):
    for policy in (policy for stack in STACKS[where] for policy in topic_policies(stack)):
        assert len({statement["Sid"] for statement in policy["Statement"]}) == len(policy["Statement"]) <= 100
        assert len({compact(statement["Resource"]) for statement in policy["Statement"]}) == 1


def table():
    def cell(value, limit, size):
        if not value:
            return "–"
        return f"{-(-value // STEP) * STEP:,}" if size else f"{value}, leaves {limit - value}"

    lines = ["| what | AWS takes | a guard | a hub | a spoke |", "|---|---|---|---|---|"]
    for what, limit, page, count, size in LIMITS:
        taken = " | ".join(cell(most(count, where), limit, size) for where in STACKS)
        lines.append(f"| {what} | [{limit:,}]({page}) | {taken} |")
    return "\n".join(lines) + "\n"


def test_the_document_says_how_much_is_taken():
    before, written, after = DOCUMENT.read_text().split(MARK)
    if os.environ.get("UPDATE_LIMITS"):
        DOCUMENT.write_text(MARK.join([before, table(), after]))
        return
    assert written == table(), "UPDATE_LIMITS=1 writes the table anew"
