"""What AWS's services do for the guard, judged by a policy engine: read off the templates, so that none is forgotten.

EventBridge invokes functions, writes logs, forwards to buses and fills queues; SNS fills the proof queue; Scheduler and Lambda take roles
and act with them; CloudWatch publishes what its alarms say.
"""

import pytest

from engine import judge
from settings import document, instead, places

PLACES = places()
TOPIC_OF_A_RULE = "a rule's topic"


def deliveries(place):
    """(what for, request) of everything that a service does in the accounts of a place."""
    for stack in place.stacks:
        account = stack.pseudo["AWS::AccountId"]

        def service(name, action, resource, source=None, account=account, **more):
            context = {"aws:SourceArn": source, "aws:SourceAccount": account} if source else {}
            return place.request(f"{name}.amazonaws.com", action, resource, context=context, **more)

        for name in stack.of_type("AWS::Events::Rule"):
            rule = stack.physical(name, "Arn")
            for target in stack.deployed(stack.properties(name))["Targets"]:
                if "DeadLetterConfig" in target:
                    queue = target["DeadLetterConfig"]["Arn"]
                    yield f"{name} stores what it can't deliver", service("events", "sqs:SendMessage", queue, rule)
                match target["Arn"].split(":")[2]:
                    case "lambda":
                        yield f"{name} invokes", service("events", "lambda:InvokeFunction", target["Arn"], rule)
                    case "sqs":
                        yield f"{name} sends", service("events", "sqs:SendMessage", target["Arn"], rule)
                    case "sns":
                        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
                        # "You can't use Condition blocks in Amazon SNS topic policies for EventBridge": there are no keys.
                        yield TOPIC_OF_A_RULE, service("events", "sns:Publish", target["Arn"])
                    case "logs":
                        stream = f"{target['Arn']}:log-stream:0f1e2d3c"
                        for writer in ("events", "delivery.logs"):
                            yield f"{name} logs", service(writer, "logs:CreateLogStream", stream)
                            yield f"{name} logs", service(writer, "logs:PutLogEvents", stream, rule)
                    case "events":
                        yield f"{name} takes its role", service("events", "sts:AssumeRole", target["RoleArn"], rule)
                        yield f"{name} forwards", place.request(target["RoleArn"], "events:PutEvents", target["Arn"])
        for name, subscription in stack.of_type("AWS::SNS::Subscription").items():
            if subscription["Protocol"] == "sqs":
                topic, queue = (stack.deployed(subscription[of]) for of in ("TopicArn", "Endpoint"))
                yield f"{name} delivers", service("sns", "sqs:SendMessage", queue, topic)
        for name in stack.of_type("AWS::Scheduler::Schedule"):
            target = stack.deployed(stack.properties(name))["Target"]
            group = f"arn:{place.partition}:scheduler:{stack.pseudo['AWS::Region']}:{account}:schedule-group/default"
            yield f"{name} takes its role", service("scheduler", "sts:AssumeRole", target["RoleArn"], group)
            yield f"{name} invokes", place.request(target["RoleArn"], "lambda:InvokeFunction", target["Arn"])
            yield f"{name} stores", place.request(target["RoleArn"], "sqs:SendMessage", target["DeadLetterConfig"]["Arn"])
        roles = {}
        for name in stack.of_type("AWS::Lambda::Function"):
            roles[stack.physical(name)] = role = stack.deployed(stack.properties(name)["Role"])
            yield f"{name} takes its role", service("lambda", "sts:AssumeRole", role, stack.physical(name, "Arn"))
        for name in stack.of_type("AWS::Lambda::EventInvokeConfig"):
            config = stack.deployed(stack.properties(name))
            queue = config["DestinationConfig"]["OnFailure"]["Destination"]
            yield f"{name} stores", place.request(roles[config["FunctionName"]], "sqs:SendMessage", queue)
        key = stack.values.get("ExistingTopicsKmsKeyArn")
        for name in stack.of_type("AWS::CloudWatch::Alarm"):
            for topic in stack.deployed(stack.properties(name)).get("AlarmActions", []):
                alarm = stack.physical(name, "Arn")
                if topic.split(":")[2] == "lambda":
                    yield f"{name} invokes", service("lambda.alarms.cloudwatch", "lambda:InvokeFunction", topic, alarm)
                # What the second route, which somebody else owns, lets through isn't ours to say.
                elif topic != stack.values["AlarmActionArn"]:
                    yield f"{name} tells people", service("cloudwatch", "sns:Publish", topic, alarm)
                    for action in ("kms:Decrypt", "kms:GenerateDataKey") if key else ():
                        yield f"{name} tells people", service("cloudwatch", action, key, alarm)


def refused(place, asked):
    answers = judge(place.documents(), [request for _, request in asked])
    return [
        f"{answer}: {what}: {r['principal']} {r['action']} {r['resource']} {r['context']}"
        for answer, (what, r) in zip(answers, asked, strict=True)
        if answer != "Allowed"
    ]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_delivery_is_allowed(place):
    asked = [(what, request) for what, request in deliveries(place) if what != TOPIC_OF_A_RULE]
    assert len(asked) > 40
    found = refused(place, asked)
    assert not found, "\n".join(found)


def test_no_rule_publishes_to_a_topic():
    """Its policy would have to let everybody's EventBridge in: under a condition it lets none in."""
    assert [f"{place}: {request}" for place in PLACES for what, request in deliveries(place) if what == TOPIC_OF_A_RULE] == []


def test_each_statement_for_a_service_is_missed_when_it_is_taken_away():
    idle = []
    for place in (place for place in PLACES if place.partition == "aws"):
        asked, taken, rests = [], [], {}
        for arn, policy in place.resources.items():
            about = [request for _, request in deliveries(place) if request["resource_policy"] == arn]
            for number, statement in enumerate(policy["Statement"]):
                if about and statement["Effect"] == "Allow" and "Service" in statement["Principal"]:
                    rest = f"{arn} without {statement.get('Sid', number)}"
                    rests[rest] = document(*(other for other in policy["Statement"] if other is not statement))
                    asked += [instead(request, arn, rest) for request in about]
                    taken += [rest] * len(about)
        assert len(rests) > 15
        answers = judge(place.documents() | rests, asked)
        idle += rests.keys() - {rest for rest, answer in zip(taken, answers, strict=True) if answer != "Allowed"}
    assert idle == []
