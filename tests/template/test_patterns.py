"""The rules' patterns let through what the catalogue reports, and hold back what it never reports.

events/verdicts.tsv says for every sample event what the catalogue reports (columns `default` and `optin`) and what is
expected of the rules that are always there (`rule`) and of all rules with both opt-ins (`optin_rule`): `yes`, `no`, or
`candidate` where a rule may pass what only the code can judge. Two rule engines that aren't ours decide what matches:
the local AWS's TestEventPattern, and event-ruler for the patterns and events that it can read.
"""

import asyncio
import csv
import json
import re
from functools import cache

import botocore.session
import pytest
from event_ruler import event_ruler
from ministack.services import eventbridge

from deployed import ACCOUNT, EXISTING_TOPICS, OPTED_IN, ROOT, Stack
from loops import each

from local import tools

EVENTS = ROOT / "events"

# The rule can't tell these from a loss; the function reads the policy, or the request, and stays silent.
CODE_DECIDES = {
    # PutKeyPolicy whose new policy leaves the account in charge of the key.
    "policy-account-among-others.json",
    "policy-account-as-bare-id.json",
    "policy-account-under-a-condition-it-meets.json",
    "policy-account-with-admin-actions.json",
    "policy-anyone-aws.json",
    "policy-anyone-of-the-account.json",
    "policy-anyone.json",
    "policy-check-not-mentioned.json",
    "policy-default-in-china.json",
    "policy-default.json",
    "policy-deletion-guarded.json",
    "policy-denial-of-loss-by-window.json",
    "policy-denial-of-skipped-check.json",
    "policy-denial-to-other-accounts.json",
    "policy-denial-to-others-than-the-account.json",
    "policy-denial-without-tls.json",
    "policy-single-statement.json",
    "policy-somebody-else-denied.json",
    "policy-use-denied-to-all-but-a-role.json",
    # CreateKey with a policy of its own, likewise.
    "key-created-with-the-account.json",
    # ImportKeyMaterial of new material that doesn't expire.
    "material-imported-new.json",
    # Calls on a part of the guard or a trail that switch nothing off.
    "guard-function-code-dry-run.json",
    "guard-subscription-made-raw.json",
    "guard-topic-renamed.json",
    "guard-trail-advanced-keeps-kms.json",
    "guard-trail-bucket-changed.json",
    "guard-trail-keeps-kms.json",
}
CODE_DECIDES_WITH_OPT_INS = CODE_DECIDES | {
    # Refused calls that wouldn't have lost a key.
    "denied-material-restored.json",
    "denied-policy-harmless.json",
}
# No rule can match these, and whoever invokes the function with them still gets an alert.
DIRECT_INVOCATION_ONLY = {
    "detail-array-empty.json",
    "detail-missing.json",
    "detail-null.json",
    "detail-text.json",
    # CloudTrail leaves an error out or writes one; only a copy has it empty.
    "error-code-empty.json",
    "event-name-missing.json",
    "event-name-null.json",
    "event-name-number.json",
    "event-source-missing.json",
    "service-event-name-missing.json",
    "source-missing.json",
}
# The rules know the guard's parts by name, the code doesn't.
NOT_THE_GUARDS = {
    "elsewhere-alarm-changed.json",
    "elsewhere-function-deleted.json",
    "elsewhere-rule-disabled.json",
    "elsewhere-subscription-removed.json",
    "elsewhere-topic-deleted.json",
}
# Only a trail with charged selectors records it, so there is no rule unless the operator adds one.
OPERATORS_RULE = {"denied-by-vpc-endpoint.json"}
# A hub hears these, on its own account's bus or on the spokes' (tests/template/test_organization.py).
HUB_ONLY = {
    "hub-bus-changed.json",
    "hub-bus-closed.json",
    "hub-bus-deleted.json",
    "hub-bus-opened.json",
    "hub-rollout-deleted.json",
    "hub-spokes-removed.json",
    "hub-stack-set-changed-by-cloudformation.json",
    "hub-stack-set-deleted.json",
    "spoke-alarm-changed.json",
    "spoke-could-not-forward.json",
    "spoke-forwards-again.json",
    "spoke-stack-deleted.json",
}


def verdicts():
    with open(EVENTS / "verdicts.tsv", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


VERDICTS = verdicts()
SAMPLES = [row for row in VERDICTS if row["rule"] != "n/a"]
# Where the samples happened.
SAMPLES_REGION = "eu-west-1"
DEFAULT = Stack(region=SAMPLES_REGION).patterns()
WITH_OPT_INS = Stack(OPTED_IN, region=SAMPLES_REGION).patterns()


def sample(row):
    return json.loads((EVENTS / row["file"]).read_text())


def local_aws_matches(pattern, event):
    return matches(pattern, json.dumps(event))


@cache
def matches(pattern, event):
    body = json.dumps({"Event": event, "EventPattern": pattern}).encode()
    headers = {"x-amz-target": "AWSEvents.TestEventPattern"}
    status, _, answer = asyncio.run(eventbridge.handle_request("POST", "/", headers, body, {}))
    assert status == 200, answer
    return json.loads(answer)["Result"]


def matching(patterns, event):
    return [name for name, pattern in patterns.items() if local_aws_matches(pattern, event)]


CASES = pytest.mark.parametrize(
    ("patterns", "finding", "rule"),
    [(DEFAULT, "default", "rule"), (WITH_OPT_INS, "optin", "optin_rule")],
    ids=["default", "with opt-ins"],
)


def each_sample(test, samples=SAMPLES):
    each(samples, test, name=lambda row: row["file"])


@CASES
def test_rules_agree_with_the_verdicts(patterns, finding, rule):
    def test(row):
        allowed = {"yes": [1], "no": [0], "candidate": [0, 1]}[row[rule]]
        # One at most: two rules for one event would be two alerts.
        assert len(matching(patterns, sample(row))) in allowed, row["why"]

    each_sample(test)


@CASES
def test_what_rules_pass_and_the_catalogue_does_not_report_is_named_here(patterns, finding, rule):
    silent = {row["file"] for row in SAMPLES if row[finding] == "-" and matching(patterns, sample(row))}
    assert silent == (CODE_DECIDES if patterns is DEFAULT else CODE_DECIDES_WITH_OPT_INS)


@CASES
def test_what_the_catalogue_reports_and_rules_hold_back_is_named_here(patterns, finding, rule):
    held_back = {row["file"] for row in SAMPLES if row[finding] != "-" and not matching(patterns, sample(row))}
    operators = set() if patterns is DEFAULT else OPERATORS_RULE
    assert held_back == DIRECT_INVOCATION_ONLY | NOT_THE_GUARDS | HUB_ONLY | operators


def test_every_rule_has_samples_that_it_passes():
    passed = {name for row in SAMPLES for name in matching(WITH_OPT_INS, sample(row))}
    assert passed == set(WITH_OPT_INS)


def test_opt_in_rules_exist_only_when_chosen():
    assert {name for name in DEFAULT if not name.startswith("Tampered")} == {
        "ApiCallRule", "AlertFunctionServiceEventRule", "AlertFunctionKmsEventRule", "AlertFunctionGuardTestRule",
    }
    assert set(Stack({"ReportDeniedAttempts": "true"}).patterns()) - set(DEFAULT) == {"DeniedAttemptRule"}
    assert set(Stack({"ReportLostKeyUse": "true"}).patterns()) - set(DEFAULT) == {"LostKeyUseRule"}


def for_event_ruler(node):
    """In event-ruler's words: prefix and suffix are called otherwise, and null isn't taken as an alternative.

    A pattern without null means the same to events without null.
    """
    match node:
        case {"prefix": str(text)}:
            return {"shellstyle": f"{text}*"}
        case {"suffix": str(text)}:
            return {"shellstyle": f"*{text}"}
    if isinstance(node, dict):
        return {key: for_event_ruler(value) for key, value in node.items()}
    if isinstance(node, list):
        kept = [for_event_ruler(value) for value in node if value is not None]
        assert kept, "null alone can't be left out, and event-ruler ends the whole process over an empty list"
        return kept
    return node


def alternatives(pattern):
    """The patterns without `$or`, which event-ruler doesn't read, of which one has to match."""
    detail = pattern.get("detail", {})
    shared = {key: value for key, value in detail.items() if key != "$or"}
    return [pattern | {"detail": shared | one} if detail else pattern for one in detail.get("$or", [{}])]


def event_ruler_matches(pattern, event):
    wanted = [json.dumps(for_event_ruler(one)) for one in alternatives(json.loads(pattern))]
    return any(event_ruler.test_event_pattern(json.dumps(event), one) for one in wanted)


def event_ruler_reads(event):
    """It wants whole events, and takes no pattern with null, without which a null field can't match.

    And it gives up on a list of objects in an object that a pattern looks into.
    """
    detail = event.get("detail")
    if not isinstance(detail, dict) or not event.get("source"):
        return False
    nulls = {field for field, value in detail.items() if value is None}
    request = detail.get("requestParameters")
    lists = [value for value in request.values() if isinstance(value, list)] if isinstance(request, dict) else []
    return not {"errorCode", "errorMessage"} & nulls and not any(isinstance(item, dict) for list_ in lists for item in list_)


def test_second_engine_agrees_on_the_default_rules():
    def test(row):
        event = sample(row)
        passed = [name for name, pattern in DEFAULT.items() if event_ruler_matches(pattern, event)]
        assert passed == matching(DEFAULT, event)

    each_sample(test, [row for row in SAMPLES if event_ruler_reads(sample(row))])


def test_read_only_calls_are_delivered_to_the_rule_about_them_alone():
    states = {name: rule.get("State", "ENABLED") for name, rule in Stack(OPTED_IN).of_type("AWS::Events::Rule").items()}
    assert states.pop("LostKeyUseRule") == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
    assert set(states.values()) == {"ENABLED"}


def test_rules_listen_on_the_default_bus_where_aws_delivers():
    for rule in Stack(OPTED_IN).of_type("AWS::Events::Rule").values():
        assert rule.get("EventBusName", "default") == "default"


# What may be done to a part, as CloudTrail records it: service, event name, where the name stands, and how it is given.
TAMPERING = {
    "AWS::Events::Rule": [
        ("events", "DisableRule", "name", str),
        ("events", "DeleteRule", "name", str),
        ("events", "PutRule", "name", str),
        ("events", "RemoveTargets", "rule", str),
        ("events", "PutTargets", "rule", str),
    ],
    "AWS::Lambda::Function": [
        ("lambda", "DeleteFunction20150331", "functionName", str),
        ("lambda", "PutFunctionConcurrency20171031", "functionName", "arn:aws:lambda:eu-west-1:111122223333:function:{}".format),
        ("lambda", "UpdateFunctionCode20150331v2", "functionName", "111122223333:function:{}".format),
        ("lambda", "UpdateFunctionConfiguration20150331v2", "functionName", "function:{}".format),
        ("lambda", "RemovePermission20150331v2", "functionName", "{}:$LATEST".format),
        ("lambda", "PutFunctionEventInvokeConfig", "functionName", "arn:aws:lambda:eu-west-1:111122223333:function:{}:$LATEST".format),
    ],
    "AWS::SNS::Topic": [
        ("sns", "DeleteTopic", "topicArn", str),
        ("sns", "SetTopicAttributes", "topicArn", str),
        ("sns", "Unsubscribe", "subscriptionArn", "{}:c3019def-3714-403e-ba29-eb14079d5c69".format),
        ("sns", "SetSubscriptionAttributes", "subscriptionArn", "{}:c3019def-3714-403e-ba29-eb14079d5c69".format),
    ],
    "AWS::SQS::Queue": [
        ("sqs", "DeleteQueue", "queueUrl", str),
        ("sqs", "PurgeQueue", "queueUrl", lambda url: url.replace("sqs.eu-west-1", "eu-west-1.queue")),
        ("sqs", "SetQueueAttributes", "queueUrl", str),
    ],
    "AWS::CloudWatch::Alarm": [
        ("monitoring", "DeleteAlarms", "alarmNames", lambda name: ["other", name]),
        ("monitoring", "DisableAlarmActions", "alarmNames", lambda name: [name]),
        ("monitoring", "PutMetricAlarm", "alarmName", str),
        ("monitoring", "PutLogAlarm", "alarmName", str),
        ("monitoring", "PutAlarmMuteRule", "muteTargets", lambda name: {"alarmNames": ["other", name]}),
    ],
    "AWS::Scheduler::Schedule": [
        ("scheduler", "DeleteSchedule", "name", str),
        ("scheduler", "UpdateSchedule", "name", str),
    ],
    "AWS::IAM::Role": [("iam", "DetachRolePolicy", "roleName", str), ("iam", "DeleteRole", "roleName", str)],
    "AWS::Logs::LogGroup": [("logs", "DeleteLogGroup", "logGroupName", str)],
    "AWS::Events::EventBus": [
        ("events", "DeleteEventBus", "name", str),
        ("events", "UpdateEventBus", "name", str),
        ("events", "PutPermission", "eventBusName", str),
        ("events", "RemovePermission", "eventBusName", str),
    ],
}


def tampering(service, event_name, parameter, value):
    detail = {"eventSource": f"{service}.amazonaws.com", "eventName": event_name, "requestParameters": {parameter: value}}
    return {"source": f"aws.{service}", "detail-type": "AWS API Call via CloudTrail", "detail": detail}


# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
STACK_STATUS = {
    True: "CREATE_COMPLETE CREATE_FAILED ROLLBACK_COMPLETE ROLLBACK_FAILED UPDATE_COMPLETE UPDATE_FAILED UPDATE_ROLLBACK_COMPLETE"
    " UPDATE_ROLLBACK_FAILED IMPORT_COMPLETE IMPORT_ROLLBACK_COMPLETE IMPORT_ROLLBACK_FAILED DELETE_FAILED DELETE_COMPLETE",
    False: "CREATE_IN_PROGRESS UPDATE_IN_PROGRESS UPDATE_COMPLETE_CLEANUP_IN_PROGRESS UPDATE_ROLLBACK_IN_PROGRESS"
    " UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS IMPORT_IN_PROGRESS DELETE_IN_PROGRESS REVIEW_IN_PROGRESS",
}


def test_end_of_a_change_of_this_stack_starts_a_self_check():
    stack = Stack(region=SAMPLES_REGION)
    pattern = json.dumps(stack.properties("StackStatusRule")["EventPattern"])
    own = stack.pseudo["AWS::StackId"]

    def starts(stack_id, status, **more):
        detail = {"stack-id": stack_id, "status-details": {"status": status, "status-reason": ""}, "client-request-token": "t"}
        event = {"source": "aws.cloudformation", "detail-type": "CloudFormation Stack Status Change", "detail": detail, **more}
        answers = {local_aws_matches(pattern, event), event_ruler_matches(pattern, event)}
        assert len(answers) == 1, "the engines disagree"
        return answers.pop()

    for ends, statuses in STACK_STATUS.items():
        for status in statuses.split():
            assert starts(own, status) == ends, status
    for other in (own.replace("/kms-key-guard/", "/kms-key-guard-2/"), own.replace(ACCOUNT, "444455556666")):
        assert not starts(other, "UPDATE_COMPLETE")
    assert not starts(own, "UPDATE_COMPLETE", **{"detail-type": "CloudFormation Resource Status Change"})


HUB = {"OrganizationId": "o-a1b2c3d4e5"}


@pytest.mark.parametrize("parameters", [{}, OPTED_IN, OPTED_IN | HUB, {"CloudTrailLogGroupName": "trail"}], ids=["default", "opted in", "hub", "auditors"])
def test_every_part_of_the_stack_is_watched_for_tampering(parameters):
    stack = Stack(parameters, region=SAMPLES_REGION)
    patterns, unwatched = stack.patterns(), []
    for name, resource in stack.resources.items():
        # Nothing depends on it but the proof of doctor, which then says so.
        if name == "ProofQueue":
            continue
        for service, event_name, parameter, given in TAMPERING.get(resource["Type"], []):
            event = tampering(service, event_name, parameter, given(stack.physical(name)))
            if len(matching(patterns, event)) != 1:
                unwatched.append((name, event_name, matching(patterns, event)))
    assert unwatched == []


@pytest.mark.parametrize("other", ["kms-key-guard-test", "kms-key-guard-rule", "my-kms-key-guard"])
def test_another_stacks_parts_are_not_the_guards(other):
    other = Stack(OPTED_IN | HUB, region=SAMPLES_REGION, name=other).physical
    ours = Stack(OPTED_IN | HUB, region=SAMPLES_REGION)
    patterns = ours.patterns()
    for name, resource in ours.resources.items():
        for service, event_name, parameter, given in TAMPERING.get(resource["Type"], []):
            event = tampering(service, event_name, parameter, given(other(name)))
            assert matching(patterns, event) == [], (name, event_name)


# A function as a caller may name it, but for the qualifier.
SPELLINGS = ["{}", "function:{}", "111122223333:{}", "111122223333:function:{}", "eu-west-1:{}", "eu-west-1:111122223333:{}",
             "eu-west-1:111122223333:function:{}", "arn:aws:lambda:eu-west-1:111122223333:function:{}"]  # fmt: skip


def test_spellings_are_those_that_lambda_takes():
    """By AWS's own model of the API."""
    shape = botocore.session.get_session().get_service_model("lambda").shape_for("FunctionName")
    for spelling in [*SPELLINGS, *(f"{one}:$LATEST" for one in SPELLINGS)]:
        assert re.fullmatch(shape.metadata["pattern"], spelling.format("kms-key-guard-AlertFunction-1A2B3C4D5E6F")), spelling


@pytest.mark.parametrize("function", ["AlertFunction", "WatchFunction"])
def test_a_function_is_watched_in_every_spelling(function):
    stack = Stack(region=SAMPLES_REGION)
    patterns, name = stack.patterns(), stack.physical(function)
    for spelling in [*SPELLINGS, *(f"{one}:$LATEST" for one in SPELLINGS)]:
        event = tampering("lambda", "PutFunctionConcurrency20171031", "functionName", spelling.format(name))
        assert matching(patterns, event) == ["TamperedFunctionsRule"], spelling
        other = tampering("lambda", "PutFunctionConcurrency20171031", "functionName", spelling.format(f"my-{name}"))
        assert matching(patterns, other) == [], spelling


def test_every_call_and_its_field_are_aws_own():
    """By botocore's models: no row of the table of calls waits for a name that no record has."""
    services = {"monitoring": "cloudwatch"}
    source = (ROOT / "src/tamper.rs").read_text()
    rows = re.findall(r'^    \("(\w+)", "(\w+)", When::\S.*?, GuardPart::\w+, "(\w+)", "', source, re.M)
    assert len(rows) == source.count(", GuardPart::") > 50
    session = botocore.session.get_session()
    for service, operation, field in rows:
        model = session.get_service_model(services.get(service, service))
        members = {name[0].lower() + name[1:] for name in model.operation_model(operation).input_shape.members}
        assert field in members or (operation, field) == ("PutAlarmMuteRule", "alarmNames"), (service, operation, field)


def test_the_stack_itself_is_watched_by_name_and_by_arn():
    arn = "arn:aws:cloudformation:eu-west-1:111122223333:stack/{}/11112222-3333-4444-5555-666677778888"
    for given, rules in [
        ("kms-key-guard", ["TamperedStackRule"]),
        (arn.format("kms-key-guard"), ["TamperedStackRule"]),
        ("kms-key-guard-test", []),
        (arn.format("kms-key-guard-test"), []),
    ]:
        assert matching(DEFAULT, tampering("cloudformation", "DeleteStack", "stackName", given)) == rules


def test_topics_that_were_there_before_are_watched_too():
    stack = Stack(EXISTING_TOPICS)
    for topic in (EXISTING_TOPICS["ExistingAlertsTopicArn"], EXISTING_TOPICS["ExistingFindingsTopicArn"]):
        for service, event_name, parameter, given in TAMPERING["AWS::SNS::Topic"]:
            event = tampering(service, event_name, parameter, given(topic))
            assert len(matching(stack.patterns(), event)) == 1, (topic, event_name)


# With it the longest name of a rule has the 64 characters that EventBridge takes.
LONGEST_STACK_NAME = "security-account-kms-key-guard-productio"
EVERY_RULE = OPTED_IN | HUB | {"CloudTrailLogGroupName": "trail"}


@pytest.mark.parametrize("parameters", [{}, EVERY_RULE], ids=["default", "every rule"])
def test_longest_stack_name_has_40_characters_whatever_is_switched_on(parameters):
    """A longer one CloudFormation refuses, since a rule's own name would be too long."""
    rules = Stack(parameters, name=LONGEST_STACK_NAME).of_type("AWS::Events::Rule").values()
    assert max(len(rule["Name"]) for rule in rules) == 64
    assert len(LONGEST_STACK_NAME) == tools.LONGEST_NAME == 40
    for document in ("docs/deploy.md", "template.yaml"):
        assert "at most 40 characters" in " ".join((ROOT / document).read_text().split()), document


def test_rules_have_names_that_no_other_stack_can_give():
    """A stack's name holds letters, digits and hyphens."""
    for rule in Stack(EVERY_RULE).of_type("AWS::Events::Rule").values():
        assert re.fullmatch(r"kms-key-guard-rule\.[a-z-]+", rule["Name"])


@pytest.mark.parametrize("name", ["kms-key-guard", LONGEST_STACK_NAME])
def test_every_pattern_is_within_eventbridges_limit(name):
    """2,048 characters, unless a higher quota was granted."""
    topic = f"arn:aws-us-gov:sns:us-gov-west-1:{ACCOUNT}:"
    longest_topics = {"ExistingAlertsTopicArn": topic + 256 * "a", "ExistingFindingsTopicArn": topic + 256 * "f"}
    for parameters in (EVERY_RULE, EVERY_RULE | EXISTING_TOPICS, EVERY_RULE | longest_topics):
        stack = Stack(parameters, name=name, partition="aws-us-gov", region="us-gov-west-1")
        for rule, pattern in stack.patterns().items():
            assert len(pattern) <= 2048, (rule, len(pattern))
