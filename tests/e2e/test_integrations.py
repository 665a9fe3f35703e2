"""The recipes of docs/integrations, deployed to the local AWS and given findings as the guard publishes them.

The local AWS has no Security Hub and PagerDuty isn't asked: a server on loopback stands for it. What the first would take is in
tests/ocsf/test_recipes.py.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any

import pytest

from local.aws import Inbox, LocalAws
from local.build import LOGS, ROOT

PATIENCE = 60
"""Seconds that a function of Python may take to start beside everything else."""


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with LocalAws(retry_delay=0.1, log=LOGS / "integrations.log") as aws:
        yield aws


@pytest.fixture
def topics(aws: LocalAws) -> dict[str, str]:
    """New topics as the guard's stack calls them."""
    create = aws.client("sns").create_topic
    return {f"{name}TopicArn": create(Name=f"{name}-{uuid.uuid4()}")["TopicArn"] for name in ("Findings", "Alerts")}


def deployed(aws: LocalAws, recipe: str, **parameters: str) -> dict[str, str]:
    """A recipe as a stack of its own; its resources by their logical ids."""
    cloudformation, stack = aws.client("cloudformation"), f"{recipe}-{uuid.uuid4().hex[:8]}"
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=(ROOT / f"docs/integrations/{recipe}.yaml").read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    resources = cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


def finding(sample: str) -> dict[str, Any]:
    return json.loads((ROOT / f"tests/golden/{sample}.ocsf.snap").read_text().split("---\n", 2)[2])


def publish(aws: LocalAws, topic: str, document: dict[str, Any]) -> None:
    """As the guard does, with the attributes that the recipes filter by."""
    attributes = {
        "severity_id": {"DataType": "Number", "StringValue": str(document["severity_id"])},
        "activity": {"DataType": "String", "StringValue": document["activity_name"]},
    }
    aws.client("sns").publish(TopicArn=topic, Message=json.dumps(document), MessageAttributes=attributes)


def test_finding_is_on_the_event_bus_for_any_rule(aws: LocalAws, topics: dict[str, str]) -> None:
    bus = deployed(aws, "event-bus", **topics)["Bus"]
    url = aws.client("sqs").create_queue(QueueName=f"rule-{uuid.uuid4()}")["QueueUrl"]
    queue = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events = aws.client("events")
    severe = {"source": ["kms-key-guard"], "detail": {"severity_id": [{"numeric": [">=", 4]}]}}
    events.put_rule(Name="severe", EventBusName=bus, EventPattern=json.dumps(severe))
    events.put_targets(Rule="severe", EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue}])
    scheduled = finding("deletion-scheduled")
    for document in (finding("guard-test"), scheduled):
        publish(aws, topics["FindingsTopicArn"], document)
    event = json.loads(Inbox(aws.client("sqs"), url).next(timeout=PATIENCE).body)
    assert (event["source"], event["detail-type"]) == ("kms-key-guard", "key-deletion-scheduled")
    assert event["resources"] == [scheduled["resources"][0]["uid"]]
    assert event["detail"] == scheduled


@contextmanager
def pagerduty(answers: list[int]) -> Iterator[tuple[str, "Queue[dict[str, Any]]"]]:
    """A server that answers so, and 202 from then on; its address, and what it took."""
    taken: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop(0) if answers else 202
            if status == 202:
                taken.put(event)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v2/enqueue", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def secret(aws: LocalAws) -> str:
    return aws.client("secretsmanager").create_secret(Name=f"pagerduty-{uuid.uuid4()}", SecretString="example-key\n")["ARN"]


def test_pagerduty_is_asked_again_and_the_all_clear_resolves_what_the_alert_triggered(
    aws: LocalAws, topics: dict[str, str]
) -> None:
    with pagerduty([500, 429]) as (url, taken):
        deployed(aws, "pagerduty", **topics, RoutingKeySecretArn=secret(aws), EventsUrl=url)
        publish(aws, topics["FindingsTopicArn"], finding("guard-test"))  # nobody is woken by a test
        scheduled = finding("deletion-scheduled")
        publish(aws, topics["FindingsTopicArn"], scheduled)
        triggered = taken.get(timeout=PATIENCE)
        publish(aws, topics["FindingsTopicArn"], finding("key-enabled"))
        resolved = taken.get(timeout=PATIENCE)
        assert (triggered["event_action"], resolved["event_action"]) == ("trigger", "resolve")
        assert triggered["dedup_key"] == resolved["dedup_key"] == scheduled["finding_info"]["uid"]
        assert triggered["payload"]["summary"] == scheduled["message"]
        assert triggered["payload"]["severity"] == "critical"
        assert triggered["routing_key"] == "example-key"
        with pytest.raises(Empty):
            taken.get_nowait()


@pytest.mark.parametrize("recipe", ["pagerduty", "security-hub"])
def test_finding_that_nobody_took_is_in_the_recipes_queue(aws: LocalAws, topics: dict[str, str], recipe: str) -> None:
    """Security Hub answers the same here as a Region does where it is switched off: with an error."""
    with pagerduty([503] * 3) as (url, taken):
        more = {"RoutingKeySecretArn": secret(aws), "EventsUrl": url} if recipe == "pagerduty" else {}
        parts = deployed(aws, recipe, **topics, **more)
        publish(aws, topics["FindingsTopicArn"], finding("deletion-scheduled"))
        stored = json.loads(Inbox(aws.client("sqs"), parts["FailureQueue"]).next(timeout=PATIENCE).body)
        (record,) = stored["requestPayload"]["Records"]
        assert json.loads(record["Sns"]["Message"]) == finding("deletion-scheduled")
        assert taken.empty()
