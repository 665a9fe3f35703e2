"""Who has no business with the guard gets nowhere: every part of it against a list of intruders, by a policy engine.

A resource's policy, or a role's trust, lets in whoever it names; only what it doesn't say keeps the others out.
"""

from fnmatch import fnmatchcase

import pytest

from calls import all_calls, made_in
from engine import judge
from reference import many
from settings import ACCOUNT, KEY_ID, MEMBER, OTHER, document, instead, places, role_of

PLACES = places()

# What an intruder would try, by the type of resource.
TRIED = {
    "AWS::SNS::Topic": "sns:Publish sns:Subscribe sns:SetTopicAttributes sns:AddPermission sns:RemovePermission sns:DeleteTopic"
    " sns:ListSubscriptionsByTopic sns:GetTopicAttributes",
    "AWS::SQS::Queue": "sqs:SendMessage sqs:ReceiveMessage sqs:DeleteMessage sqs:PurgeQueue sqs:SetQueueAttributes"
    " sqs:DeleteQueue",
    "AWS::Lambda::Function": "lambda:InvokeFunction lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration"
    " lambda:AddPermission lambda:RemovePermission lambda:PutFunctionConcurrency lambda:DeleteFunction lambda:GetFunction",
    "AWS::Events::Rule": "events:DisableRule events:DeleteRule events:PutRule events:PutTargets events:RemoveTargets",
    "AWS::Events::EventBus": "events:PutEvents events:DeleteEventBus events:UpdateEventBus",
    "AWS::IAM::Role": "sts:AssumeRole iam:PutRolePolicy iam:UpdateAssumeRolePolicy iam:DeleteRole iam:PassRole",
    "AWS::Logs::LogGroup": "logs:PutLogEvents logs:FilterLogEvents logs:DeleteLogGroup",
    "AWS::CloudWatch::Alarm": "cloudwatch:DeleteAlarms cloudwatch:DisableAlarmActions cloudwatch:PutMetricAlarm"
    " cloudwatch:SetAlarmState",
}  # fmt: skip
KEYS = (
    "kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:DisableKey kms:ScheduleKeyDeletion kms:PutKeyPolicy kms:CreateGrant"
    " kms:TagResource"
)
SERVICES = ["cloudwatch", "delivery.logs", "events", "lambda", "lambda.alarms.cloudwatch", "s3", "scheduler", "sns"]


# To IAM they are all alike, so that one of them stands for the others.
ALIKE = {"AWS::Events::Rule", "AWS::CloudWatch::Alarm"}


def parts(stack):
    """(action, ARN) of everything to try on a stack, and on keys of its account and Region."""
    account, region, partition = (stack.pseudo[f"AWS::{of}"] for of in ("AccountId", "Region", "Partition"))
    for kind, actions in TRIED.items():
        names = list(stack.of_type(kind))
        for name in names[:1] if kind in ALIKE else names:
            arn = stack.physical(name, None if kind == "AWS::SNS::Topic" else "Arn")
            for action in actions.split():
                stream = "intruder" if action == "logs:PutLogEvents" else ""
                yield action, arn.removesuffix("*") + f"log-stream:{stream}" if kind == "AWS::Logs::LogGroup" else arn
    keys = [f"arn:{partition}:kms:{region}:{account}:key/{KEY_ID}", stack.values.get("ExistingTopicsKmsKeyArn")]
    for key in filter(None, keys):
        yield from ((action, key) for action in KEYS.split())


def attempts(place):
    """(who, request) of each intruder on each part."""
    # What a call may only under a condition is to be tried without it.
    calls = {
        (role_of(call["principal"]), call["action"], group_of(call["resource"]))
        for call in made_in(place, all_calls())
        if "context" not in call
    }
    all_rights = {"identity": ["everything"]}

    def role(account, name):
        return f"arn:{place.partition}:iam::{account}:role/{name}"

    for stack in place.stacks:
        own = stack.pseudo["AWS::AccountId"]
        for action, resource in parts(stack):
            # The hub's bus takes whatever the organization sends: only AWS sends what its rules look for.
            is_open = action == "events:PutEvents"
            yield "nobody", place.request({"type": "Anonymous"}, action, resource)
            for context in ({}, {"aws:PrincipalOrgID": "o-z9y8x7w6v5"}):
                stranger = place.request(role(OTHER, "admin"), action, resource, context=context, **all_rights)
                yield "administrator of another account and organization", stranger
            if not is_open:
                yield "without any permission", place.request(role(own, "app"), action, resource)
                for account in {ACCOUNT, MEMBER} - {own}:
                    yield "colleague's administrator", place.request(role(account, "admin"), action, resource, **all_rights)
                for guard in place.identities:
                    if "/keyguard-" not in guard and (guard, action, group_of(resource)) not in calls:
                        yield "the guard itself", place.request(guard, action, resource)
            # A service has no policies of its own, so it is tried where there is one on the resource.
            for service in SERVICES if place.policy_on(resource) else ():
                for whose in (OTHER, own):
                    theirs = f"arn:{place.partition}:{service.rpartition('.')[2]}:{place.region}:{whose}:rule/theirs"
                    if not may_take(service, action, whose == own):
                        context = {"aws:SourceArn": theirs, "aws:SourceAccount": whose}
                        asked = place.request(f"{service}.amazonaws.com", action, resource, context=context)
                        yield f"{service} for something of {whose}", asked
        for action, resource in parts(stack):
            if action.startswith("sqs:") or action in ("sns:Publish", "sns:Subscribe"):
                plain = {"aws:SecureTransport": "false"}
                yield "over plain HTTP", place.request(role(own, "admin"), action, resource, context=plain, **all_rights)
    # Whoever plants a role of the reader's name, and lets everybody in, gets no visit from the hub.
    for guard in place.identities:
        if "AlertFunctionRole" in guard:
            elsewhere = {"aws:ResourceOrgID": "o-z9y8x7w6v5"}
            visit = place.request(guard, "sts:AssumeRole", role(OTHER, "kms-key-guard-spoke-reader"), context=elsewhere)
            yield "a planted reader role", visit | {"resource_policy": "anybody"}


def group_of(resource):
    """The log group of a stream: which stream it is makes no difference."""
    return resource.partition(":log-stream:")[0]


def may_take(service, action, own):
    """Roles that a service takes for any resource of the account: who may pass them to one is IAM's to say."""
    return action == "sts:AssumeRole" and (service == "lambda" or (service == "scheduler" and own))


OPEN_TO_ALL = {
    "everything": document({"Effect": "Allow", "Action": "*", "Resource": "*"}),
    "anybody": document({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}),
}


def let_in(place, asked):
    answers = judge(place.documents() | OPEN_TO_ALL, [request for _, request in asked])
    return [
        f"{answer}: {who}: {r['principal']} {r['action']} {r['resource']} {r['context']}"
        for answer, (who, r) in zip(answers, asked, strict=True)
        if answer not in ("ImplicitlyDenied", "ExplicitlyDenied")
    ]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_intruders_are_denied(place):
    asked = list(attempts(place))
    assert len(asked) > 1000
    found = let_in(place, asked)
    assert not found, f"{len(found)} of {len(asked)}\n" + "\n".join(found)


def test_each_condition_keeps_an_intruder_out():
    """Each condition of an Allow, and each Deny, is taken away in turn, and somebody gets in."""
    idle = []
    for place in (place for place in PLACES if place.partition == "aws"):
        asked, taken, rests = [], [], {}
        every = [request for _, request in attempts(place)]
        for name, policy in place.documents().items():
            about = [request for request in every if name == request["resource_policy"] or name in request["identity"]]
            for number, statement in enumerate(policy["Statement"]):
                actions = many(statement["Action"])
                tried = [request for request in about if any(fnmatchcase(request["action"], action) for action in actions)]
                if "Condition" in statement and tried:
                    rest = f"{name} {statement.get('Sid', number)}"
                    others = [other for other in policy["Statement"] if other is not statement]
                    if statement["Effect"] == "Allow":
                        others.append({key: value for key, value in statement.items() if key != "Condition"})
                    rests[rest] = document(*others)
                    asked += [instead(request, name, rest) for request in tried]
                    taken += [rest] * len(tried)
        assert len(rests) > 20
        answers = judge(place.documents() | OPEN_TO_ALL | rests, asked)
        idle += rests.keys() - {rest for rest, answer in zip(taken, answers, strict=True) if answer == "Allowed"}
    assert not idle, "\n".join(idle)
