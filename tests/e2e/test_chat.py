"""A guard with a topic for chat channels, end to end: one thread from the danger to the all-clear, and the topic's loss."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.aws import Inbox, LocalAws, Message, deploy
from local.build import LOGS

from .conftest import Guarded


@pytest.fixture(scope="module")
def guarded(built: None) -> Iterator[Guarded]:
    with LocalAws(retry_delay=0.1, log=LOGS / "chat.log") as aws:
        aws.start_trail()
        yield Guarded(aws, deploy(aws, {"ChatTopic": "true"}))


def notification(message: Message) -> dict[str, Any]:
    document = json.loads(message.body)
    assert (document["version"], document["source"]) == ("1.0", "custom")
    return document


def test_channel_has_one_thread_of_a_key_and_a_lost_topic_is_a_failed_alert(guarded: Guarded) -> None:
    key = guarded.key()
    chat = guarded.inbox("ChatTopicArn", key_arn=[key.arn])
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    scheduled = chat.next()
    alert = key.alerts.next()
    assert notification(scheduled)["content"]["title"] == alert.subject
    assert scheduled.attributes == alert.attributes
    key.kms.cancel_key_deletion(KeyId=key.arn)
    key.kms.enable_key(KeyId=key.arn)
    enabled = chat.next(lambda message: message.attributes["event_name"] == "EnableKey")
    assert enabled.attributes["activity"] == "Close"
    threads = {notification(message)["metadata"]["threadId"] for message in (scheduled, enabled)}
    assert threads == {key.arn}

    failed = Inbox(guarded.aws.client("sqs"), guarded.outputs["AlertFailureQueueUrl"])
    guarded.aws.client("sns").delete_topic(TopicArn=guarded.outputs["ChatTopicArn"])
    key.kms.disable_key(KeyId=key.arn)
    stored = failed.next(lambda message: '"DisableKey"' in message.body, timeout=60)
    assert "the chat topic didn't take the alert" in json.loads(stored.body)["responsePayload"]["errorMessage"]
    # The other topics have it all the same.
    for inbox in (key.alerts, key.findings):
        inbox.next(lambda message: message.attributes["event_name"] == "DisableKey")
