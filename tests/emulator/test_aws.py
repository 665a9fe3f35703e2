"""The local AWS does what AWS does, where the other tests rely on it."""

import json
import re
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import Inbox, LocalAws

REGION = "eu-central-1"


class Account:
    """A fresh account with a queue that a rule fills."""

    def __init__(self, aws: LocalAws, state: str = "ENABLED") -> None:
        self.aws, self.id = aws, f"{uuid.uuid4().int % 10**12:012}"
        self.kms = self.client("kms")
        self.events = self.client("events")
        self.inbox = self.watch("kms", state)

    def client(self, service: str, **credentials: str) -> Any:
        return self.aws.client(service, self.id, REGION, **credentials)

    def watch(self, name: str, state: str) -> Inbox:
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        self.events.put_rule(Name=name, EventPattern='{"source": ["aws.kms"]}', State=state)
        self.events.put_targets(
            Rule=name, Targets=[{"Id": "queue", "Arn": f"arn:aws:sqs:{REGION}:{self.id}:{name}"}]
        )
        return Inbox(sqs, url)

    def key(self) -> str:
        return self.kms.create_key()["KeyMetadata"]["Arn"]

    def record(self, event_name: str) -> dict[str, Any]:
        return self.envelope(event_name)["detail"]

    def envelope(self, event_name: str) -> dict[str, Any]:
        return json.loads(self.inbox.next(lambda message: f'"eventName": "{event_name}"' in message.body).body)

    def seen(self) -> list[str]:
        return [json.loads(message.body)["detail"]["eventName"] for message in self.inbox.all()]


@pytest.fixture
def account(bare: LocalAws) -> Account:
    account = Account(bare)
    bare.start_trail(account.id, REGION)
    return account


def test_a_call_becomes_a_record_in_cloudtrails_shape(account: Account) -> None:
    key = account.key()
    person = account.client("kms", **account.aws.person("alice", "platform-admin", account.id, REGION))
    person.create_alias(AliasName="alias/shape", TargetKeyId=key)
    person.schedule_key_deletion(KeyId=key.rsplit("/", 1)[-1], PendingWindowInDays=7)
    envelope = account.envelope("ScheduleKeyDeletion")
    assert envelope["detail-type"] == "AWS API Call via CloudTrail"
    assert (envelope["account"], envelope["region"], envelope["resources"]) == (account.id, REGION, [])
    record = envelope["detail"]
    assert record["requestParameters"] == {"keyId": key.rsplit("/", 1)[-1], "pendingWindowInDays": 7}
    deletion = record["responseElements"].pop("deletionDate")
    assert re.fullmatch(r"[A-Z][a-z]{2} \d{1,2}, \d{4}, \d{1,2}:\d\d:\d\d [AP]M", deletion)
    assert record["responseElements"] == {"keyId": key, "keyState": "PendingDeletion", "pendingWindowInDays": 7}
    assert record["resources"] == [{"accountId": account.id, "type": "AWS::KMS::Key", "ARN": key}]
    identity = record["userIdentity"]
    assert identity["type"] == "AssumedRole"
    assert identity["arn"] == f"arn:aws:sts::{account.id}:assumed-role/platform-admin/alice"
    assert identity["sessionContext"]["sessionIssuer"]["userName"] == "platform-admin"
    assert record["userAgent"].startswith("Boto3/")
    assert record["sourceIPAddress"] == "127.0.0.1"
    assert record["readOnly"] is False
    assert record["recipientAccountId"] == account.id
    assert "errorCode" not in record


def test_a_call_that_answers_nothing_is_recorded_with_the_keys_arn(account: Account) -> None:
    key = account.key()
    account.kms.disable_key(KeyId=key)
    assert account.record("DisableKey")["responseElements"] == {"keyId": key}


def test_a_failed_call_is_delivered_with_its_error(account: Account) -> None:
    key = account.key()
    account.kms.schedule_key_deletion(KeyId=key)
    with pytest.raises(ClientError):
        account.kms.enable_key(KeyId=key)
    record = account.record("EnableKey")
    assert record["errorCode"] == "KMSInvalidStateException"
    assert record["errorMessage"] == f"{key} is pending deletion."
    assert record["responseElements"] is None


def test_secrets_are_not_recorded(bare: LocalAws) -> None:
    account = Account(bare, "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")
    bare.start_trail(account.id, REGION)
    account.kms.encrypt(KeyId=account.key(), Plaintext=b"secret", EncryptionContext={"Purpose": "test"})
    record = account.record("Encrypt")
    assert set(record["requestParameters"]) == {"keyId", "encryptionContext"}
    assert record["requestParameters"]["encryptionContext"] == {"Purpose": "test"}
    assert record["responseElements"] is None


def test_only_a_rule_that_asks_for_them_sees_read_only_calls(account: Account) -> None:
    everything = account.watch("all", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")
    key = account.key()
    account.kms.describe_key(KeyId=key)
    account.kms.disable_key(KeyId=key)
    assert account.seen() == ["CreateKey", "DisableKey"]
    assert [json.loads(m.body)["detail"]["eventName"] for m in everything.all()] == [
        "CreateKey",
        "DescribeKey",
        "DisableKey",
    ]


def test_without_a_trail_that_logs_nothing_is_delivered(bare: LocalAws) -> None:
    account = Account(bare)
    account.key()
    assert account.seen() == []
    bare.start_trail(account.id, REGION)
    account.key()
    assert account.seen() == ["CreateKey"]
    account.client("cloudtrail").stop_logging(Name="management")
    account.key()
    assert account.seen() == []


@pytest.mark.parametrize(
    "selectors",
    [
        {"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]},
        {"EventSelectors": [{"ReadWriteType": "ReadOnly"}]},
        {
            "AdvancedEventSelectors": [
                {
                    "FieldSelectors": [
                        {"Field": "eventCategory", "Equals": ["Management"]},
                        {"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]},
                    ]
                }
            ]
        },
    ],
)
def test_a_trail_that_leaves_kms_out_delivers_nothing(account: Account, selectors: dict[str, Any]) -> None:
    account.client("cloudtrail").put_event_selectors(TrailName="management", **selectors)
    account.key()
    assert account.seen() == []


def test_a_key_pending_deletion_refuses_what_aws_refuses(account: Account) -> None:
    key, kms = account.key(), account.kms
    kms.schedule_key_deletion(KeyId=key)
    for call in (
        lambda: kms.enable_key(KeyId=key),
        lambda: kms.disable_key(KeyId=key),
        lambda: kms.schedule_key_deletion(KeyId=key),
        lambda: kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}]),
        lambda: kms.create_alias(AliasName="alias/too-late", TargetKeyId=key),
    ):
        with pytest.raises(kms.exceptions.KMSInvalidStateException, match="is pending deletion"):
            call()
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy="{}")
    kms.cancel_key_deletion(KeyId=key)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"
    with pytest.raises(kms.exceptions.KMSInvalidStateException, match="is not pending deletion"):
        kms.cancel_key_deletion(KeyId=key)


def test_a_primary_key_waiting_for_its_replicas_has_no_deletion_date(account: Account) -> None:
    key = account.kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    account.kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    account.kms.schedule_key_deletion(KeyId=key)
    elements = account.record("ScheduleKeyDeletion")["responseElements"]
    assert elements == {"keyId": key, "keyState": "PendingReplicaDeletion", "pendingWindowInDays": 30}
    assert "DeletionDate" not in account.kms.describe_key(KeyId=key)["KeyMetadata"]


def test_last_usage_names_the_last_successful_use(account: Account) -> None:
    key = account.key()
    assert "KeyLastUsage" not in account.kms.get_key_last_usage(KeyId=key)
    account.kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    account.kms.disable_key(KeyId=key)
    with pytest.raises(account.kms.exceptions.DisabledException):
        account.kms.encrypt(KeyId=key, Plaintext=b"x")
    usage = account.kms.get_key_last_usage(KeyId=key)
    assert usage["KeyLastUsage"]["Operation"] == "GenerateDataKey"
    assert usage["TrackingStartDate"] <= usage["KeyCreationDate"]


@pytest.mark.parametrize(
    "message",
    [
        {"Message": "text", "Subject": "x" * 100},
        {"Message": "text", "Subject": "two\nlines"},
        {"Message": "text", "MessageAttributes": {"empty": {"DataType": "String", "StringValue": ""}}},
        {"Message": "text", "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "many"}}},
        {"Message": '{"email": "text"}', "MessageStructure": "json"},
        {"Message": "x" * (256 * 1024 + 1)},
    ],
)
def test_sns_refuses_what_aws_refuses(account: Account, message: dict[str, Any]) -> None:
    sns = account.client("sns")
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.publish(TopicArn=topic, Message="text", Subject="x" * 99)
    with pytest.raises(ClientError):
        sns.publish(TopicArn=topic, **message)


def test_services_events_come_in_only_by_the_back_door(account: Account) -> None:
    entry = {"Source": "aws.kms", "DetailType": "KMS CMK Deletion", "Detail": "{}"}
    refused = account.events.put_events(Entries=[entry])
    assert refused["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"
    account.aws.inject(
        {"source": "aws.kms", "detail-type": "KMS CMK Deletion", "resources": ["arn"], "detail": {"key-id": "1"}},
        account.id,
        REGION,
    )
    event = json.loads(account.inbox.next().body)
    assert (event["detail-type"], event["resources"], event["account"]) == ("KMS CMK Deletion", ["arn"], account.id)


def test_rule_transforms_an_event_for_a_topic_and_gives_it_no_subject(account: Account) -> None:
    topic = account.client("sns").create_topic(Name="sentences")["TopicArn"]
    inbox = account.aws.inbox(topic, "sentences", account=account.id, region=REGION)
    transformer = {
        "InputPathsMap": {"call": "$.detail.eventName", "place": "$.detail.awsRegion"},
        "InputTemplate": '"<call> was called in <place>."',
    }
    account.events.put_targets(Rule="kms", Targets=[{"Id": "topic", "Arn": topic, "InputTransformer": transformer}])
    account.key()
    mail = inbox.next()
    # As a sentence in JSON, which it is.
    assert (mail.subject, mail.body) == ("", f'"CreateKey was called in {REGION}."')


def test_an_email_subscription_waits_for_its_confirmation(account: Account) -> None:
    sns, address = account.client("sns"), "people@example.com"
    topic = sns.create_topic(Name="topic")["TopicArn"]
    subscribed = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
    assert subscribed["SubscriptionArn"] == "pending confirmation"
    (listed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed["SubscriptionArn"] == "PendingConfirmation"
    counts = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert (counts["SubscriptionsConfirmed"], counts["SubscriptionsPending"]) == ("0", "1")
    account.aws.confirm(topic, address, account.id, REGION)
    (listed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    attributes = sns.get_subscription_attributes(SubscriptionArn=listed["SubscriptionArn"])["Attributes"]
    assert attributes["PendingConfirmation"] == "false"


def test_lists_come_in_pages(account: Account) -> None:
    keys = {account.key() for _ in range(3)}
    first = account.kms.list_keys(Limit=2)
    assert (len(first["Keys"]), first["Truncated"]) == (2, True)
    second = account.kms.list_keys(Limit=2, Marker=first["NextMarker"])
    assert (len(second["Keys"]), second["Truncated"]) == (1, False)
    assert {key["KeyArn"] for key in first["Keys"] + second["Keys"]} == keys
    for number in range(51):
        account.kms.create_alias(AliasName=f"alias/n{number}", TargetKeyId=first["Keys"][0]["KeyId"])
    assert account.kms.list_aliases()["Truncated"] is True
    pages = account.kms.get_paginator("list_aliases").paginate()
    assert sum(len(page["Aliases"]) for page in pages) == 51
