"""What a stack's change sets off on the local AWS: CloudFormation's event, a FIFO queue, a function that gives messages back."""

import json
import uuid
from typing import Any

import pytest

from local.aws import Inbox, LocalAws

from . import functions

REGION = "eu-central-1"
TEMPLATE = {
    "Parameters": {"Topic": {"Type": "String", "Default": ""}},
    "Conditions": {
        "Own": {"Fn::Equals": [
            {"Fn::Select": [4, {"Fn::Split": [":", {"Fn::Sub": "${Topic}::::${AWS::AccountId}"}]}]}, {"Ref": "AWS::AccountId"},
        ]},
    },
    "Resources": {
        "Always": {"Type": "AWS::SNS::Topic"},
        "OwnOnly": {"Type": "AWS::SNS::Topic", "Condition": "Own"},
    },
}  # fmt: skip
ECHO_AND_GIVE_BACK_ONCE = """import boto3
boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))
first = [r for r in event["Records"] if r["attributes"]["ApproximateReceiveCount"] == "1"]
return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in first]}"""


class Place:
    """A fresh account."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.id = aws, f"{uuid.uuid4().int % 10**12:012}"

    def client(self, service: str) -> Any:
        return self.aws.client(service, self.id, REGION)

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """URL and ARN of a queue that every rule may send to."""
        arn = f"arn:aws:sqs:{REGION}:{self.id}:{name}"
        allow = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
        policy = json.dumps({"Statement": [allow]})
        url = self.client("sqs").create_queue(QueueName=name, Attributes={"Policy": policy, **attributes})["QueueUrl"]
        return url, arn

    def watch_stacks(self, queue_arn: str, **target: Any) -> None:
        events = self.client("events")
        pattern = {"source": ["aws.cloudformation"], "detail": {"status-details": {"status": [{"suffix": "_COMPLETE"}]}}}
        events.put_rule(Name="stacks", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="stacks", Targets=[{"Id": "queue", "Arn": queue_arn, **target}])

    def deploy(self, name: str, topic: str = "") -> set[str]:
        """A stack; the logical ids of what it has."""
        stacks = self.client("cloudformation")
        parameters = [{"ParameterKey": "Topic", "ParameterValue": topic}]
        stacks.create_stack(StackName=name, TemplateBody=json.dumps(TEMPLATE), Parameters=parameters)
        stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        return {r["LogicalResourceId"] for r in stacks.list_stack_resources(StackName=name)["StackResourceSummaries"]}


@pytest.fixture
def place(bare: LocalAws) -> Place:
    return Place(bare)


def test_the_end_of_a_change_of_a_stack_is_an_event_of_cloudformations(place: Place) -> None:
    url, arn = place.queue("ends")
    place.watch_stacks(arn)
    place.deploy("some")
    event = json.loads(Inbox(place.client("sqs"), url).next().body)
    stack = place.client("cloudformation").describe_stacks(StackName="some")["Stacks"][0]["StackId"]
    assert (event["source"], event["detail-type"]) == ("aws.cloudformation", "CloudFormation Stack Status Change")
    assert (event["account"], event["region"], event["resources"]) == (place.id, REGION, [stack])
    assert event["detail"]["stack-id"] == stack
    assert event["detail"]["status-details"]["status"] == "CREATE_COMPLETE"


def test_conditions_take_an_arn_apart(place: Place) -> None:
    assert place.deploy("none") == {"Always", "OwnOnly"}
    assert place.deploy("own", f"arn:aws:sns:{REGION}:{place.id}:t") == {"Always", "OwnOnly"}
    assert place.deploy("theirs", f"arn:aws:sns:{REGION}:444455556666:t") == {"Always"}


def test_a_function_gives_messages_of_a_fifo_queue_back_until_the_visibility_timeout_is_over(place: Place) -> None:
    out = place.client("sqs").create_queue(QueueName="out")["QueueUrl"]
    function = functions.create(
        place.aws, place.id, REGION, "taker", ECHO_AND_GIVE_BACK_ONCE, Environment={"Variables": {"QUEUE": out}}, Timeout=3
    )
    _, arn = place.queue("in.fifo", FifoQueue="true", ContentBasedDeduplication="true", VisibilityTimeout="3")
    place.client("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=function, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    place.watch_stacks(arn, SqsParameters={"MessageGroupId": "one"})
    place.deploy("some")
    taken = Inbox(place.client("sqs"), out)
    (first,) = json.loads(taken.next(timeout=30).body)["Records"]
    (again,) = json.loads(taken.next(timeout=30).body)["Records"]
    assert first["attributes"]["MessageGroupId"] == "one"
    assert json.loads(first["body"])["detail"]["status-details"]["status"] == "CREATE_COMPLETE"
    assert (first["messageId"], first["attributes"]["SentTimestamp"]) == (again["messageId"], again["attributes"]["SentTimestamp"])
