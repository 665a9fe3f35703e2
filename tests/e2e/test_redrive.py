"""`keyguard redrive`: what waits in a failure queue goes through the function again, and only what was handled goes away."""

import json
import signal
import subprocess
import time
from typing import Any

import pytest

from local.aws import ROOT, Inbox, environment

from .conftest import Guarded
from .test_failures import forbid_invocations, queue

KEYGUARD = ROOT / "target" / "debug" / "keyguard"


pytestmark = pytest.mark.usefixtures("keyguard")


def command(guarded: Guarded, output: str, *options: str) -> list[str]:
    return [str(KEYGUARD), "redrive", "--queue-url", guarded.outputs[output], "--region", "eu-west-1", *options]


def redrive(guarded: Guarded, output: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(guarded, output, *options), env=guarded.aws.environment(), capture_output=True, text=True, timeout=60
    )


def waiting(guarded: Guarded, output: str, count: int) -> None:
    """Wait until this many messages lie in the queue, without taking one."""
    deadline = time.monotonic() + 60
    while (found := left(guarded, output)) != count:
        assert time.monotonic() < deadline, f"{found} instead of {count} messages"
        time.sleep(0.2)


def left(guarded: Guarded, output: str) -> int:
    """How many messages the queue holds, the hidden ones too."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs, url = guarded.aws.client("sqs"), guarded.outputs[output]
    return sum(map(int, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


def stored(guarded: Guarded, number: int) -> dict[str, Any]:
    """What Lambda puts into the failure queue for an event that it gave up."""
    event = json.loads((ROOT / "events" / "key-disabled.json").read_text())
    event["id"] = event["detail"]["eventID"] = f"00000000-0000-4000-8000-{number:012}"
    function = guarded.aws.client("lambda").get_function(FunctionName=guarded.outputs["AlertFunctionName"])
    context = {"functionArn": function["Configuration"]["FunctionArn"] + ":$LATEST", "condition": "RetriesExhausted"}
    return {"version": "1.0", "requestContext": context, "requestPayload": event}


def test_a_broken_topic_costs_no_alert(breakable: Guarded) -> None:
    key = breakable.key()
    sns = breakable.aws.client("sns")
    sns.delete_topic(TopicArn=breakable.outputs["AlertsTopicArn"])
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    # That the topic was deleted is an event of its own.
    waiting(breakable, "AlertFailureQueueUrl", 2)

    still_broken = redrive(breakable, "AlertFailureQueueUrl", "--yes")
    assert still_broken.returncode == 2
    assert "stays in the queue: the function failed again" in still_broken.stderr
    waiting(breakable, "AlertFailureQueueUrl", 2)

    sns.create_topic(Name=breakable.outputs["AlertsTopicArn"].rsplit(":", 1)[1])
    alerts = breakable.inbox("AlertsTopicArn")

    dry = redrive(breakable, "AlertFailureQueueUrl")
    assert dry.returncode == 0, dry.stderr
    assert "ScheduleKeyDeletion" in dry.stdout and "RetriesExhausted" in dry.stdout
    assert "2 would be sent again with --yes" in dry.stderr
    assert not alerts.all()
    waiting(breakable, "AlertFailureQueueUrl", 2)

    done = redrive(breakable, "AlertFailureQueueUrl", "--yes")
    assert done.returncode == 0, done.stderr
    assert "sent, published; deleted" in done.stdout
    assert {alerts.next().attributes["event_name"] for _ in range(2)} == {"DeleteTopic", "ScheduleKeyDeletion"}
    waiting(breakable, "AlertFailureQueueUrl", 0)

    again = redrive(breakable, "AlertFailureQueueUrl", "--yes")
    assert (again.returncode, again.stdout) == (0, "")
    assert not alerts.all()


def test_an_undelivered_event_is_sent_from_the_rules_queue(breakable: Guarded) -> None:
    key = breakable.key()
    forbid_invocations(breakable)
    key.kms.disable_key(KeyId=key.arn)
    waiting(breakable, "RuleDeadLetterQueueUrl", 1)
    done = redrive(breakable, "RuleDeadLetterQueueUrl", "--yes")
    assert done.returncode == 0, done.stderr
    assert key.alerts.next().attributes["event_name"] == "DisableKey"
    waiting(breakable, "RuleDeadLetterQueueUrl", 0)


def test_killed_at_any_moment_it_loses_nothing(guarded: Guarded) -> None:
    sqs, url = guarded.aws.client("sqs"), guarded.outputs["AlertFailureQueueUrl"]
    numbers = range(40)
    for number in numbers:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(stored(guarded, number)))
    findings = guarded.inbox("FindingsTopicArn", detection=["key-disabled"])
    for patience in (0.2, 0.5, 0.9):
        run = subprocess.Popen(
            command(guarded, "AlertFailureQueueUrl", "--yes"),
            env=guarded.aws.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(patience)
        run.send_signal(signal.SIGKILL)
        run.wait()
    # A message that a killed run held shows again half a minute later.
    deadline = time.monotonic() + 60
    while left(guarded, "AlertFailureQueueUrl"):
        assert time.monotonic() < deadline
        done = redrive(guarded, "AlertFailureQueueUrl", "--yes")
        assert done.returncode == 0, done.stderr
    documents = [json.loads(message.body) for message in findings.all()]
    event_ids = [document["unmapped"]["event_id"] for document in documents]
    assert set(event_ids) == {f"00000000-0000-4000-8000-{number:012}" for number in numbers}
    uids = {(document["unmapped"]["event_id"], document["metadata"]["uid"]) for document in documents}
    assert len(uids) == len(numbers), "a repeat carries the same uid"


def test_what_cannot_be_understood_stays_and_is_named(guarded: Guarded) -> None:
    sqs, url = guarded.aws.client("sqs"), guarded.outputs["AlertFailureQueueUrl"]
    junk = sqs.send_message(QueueUrl=url, MessageBody="not an event")["MessageId"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(stored(guarded, 99)))
    alerts = guarded.inbox("AlertsTopicArn", detection=["key-disabled"])
    done = redrive(guarded, "AlertFailureQueueUrl", "--yes")
    assert done.returncode == 2
    assert f"{junk} stays in the queue: it can't be understood" in done.stderr
    assert alerts.next()
    waiting(guarded, "AlertFailureQueueUrl", 1)
    assert Inbox(sqs, url).next().body == "not an event"


def test_planted_message_invokes_nobody_and_is_named(guarded: Guarded) -> None:
    sqs, url = guarded.aws.client("sqs"), guarded.outputs["AlertFailureQueueUrl"]
    planted = stored(guarded, 8)
    # There, and of the same account: its own answer would be one of the guard's.
    other = guarded.outputs["WatchFunctionName"]
    planted["requestContext"]["functionArn"] = f"arn:aws:lambda:eu-west-1:111122223333:function:{other}"
    message = sqs.send_message(QueueUrl=url, MessageBody=json.dumps(planted))["MessageId"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(stored(guarded, 9)))
    alerts = guarded.inbox("AlertsTopicArn", detection=["key-disabled"])
    for options in ([], ["--function", f"111122223333:function:{guarded.outputs['AlertFunctionName']}:$LATEST"]):
        done = redrive(guarded, "AlertFailureQueueUrl", *options, *(["--yes"] if options else []))
        assert done.returncode == 2
        assert f"function:{guarded.outputs['AlertFunctionName']}" in done.stderr.splitlines()[0]
        assert f"{message} stays in the queue: it names another function" in done.stderr and other in done.stderr
    assert alerts.next()
    waiting(guarded, "AlertFailureQueueUrl", 1)
    assert json.loads(Inbox(sqs, url).next().body)["requestContext"] == planted["requestContext"]


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("not-a-url", {}, "isn't a queue's URL"),
        (None, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "there are no AWS credentials"),
        ("{endpoint}/111122223333/no-such-queue", {}, "is none of the queues of the stack"),
        ("{endpoint}/444455556666/no-such-queue", {}, "the queue belongs to account 444455556666"),
    ],
)
def test_wrong_use_is_one_clear_sentence(guarded: Guarded, url: str | None, options: dict[str, str], sentence: str) -> None:
    sqs, queue_url = guarded.aws.client("sqs"), guarded.outputs["AlertFailureQueueUrl"]
    sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(stored(guarded, 7)))
    url = (url or queue_url).format(endpoint=guarded.aws.endpoint)
    env = {name: value for name, value in {**guarded.aws.environment(), **options}.items() if value}
    run = subprocess.run(
        [KEYGUARD, "redrive", "--queue-url", url, "--region", "eu-west-1", "--yes"],
        env={**env, "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert sentence in run.stderr and not run.stdout
    waiting(guarded, "AlertFailureQueueUrl", 1)
    assert queue(guarded, "AlertFailureQueueUrl").all()
