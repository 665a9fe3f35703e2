"""From a KMS call to the alert, through the deployed stack."""

import json
import re
import shlex
import subprocess
import unicodedata
import uuid
from datetime import datetime, timezone
from typing import Any

import jsonschema
import pytest
from botocore.exceptions import ClientError
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

from local.aws import ACCOUNT, REGION
from local.build import environment
from local.demo import CANCELLED, ENABLED, SCHEDULED, Arrived, Expected, wrong

from .conftest import Guarded, Key

DISABLED = Expected("DisableKey", "key-disabled", ("Medium", "High"), "Create", ("enable-key", "alice"))
OTHER_ACCOUNT = "444455556666"


def arrived(key: Key, expected: Expected) -> Arrived:
    """The alert and the finding of one call."""
    alert = key.alerts.next(lambda message: message.attributes["event_name"] == expected.event_name)
    finding = key.findings.next(lambda message: message.attributes["event_name"] == expected.event_name)
    return Arrived(alert, finding, 0)


def test_a_key_scheduled_for_deletion_and_brought_back_is_one_story(guarded: Guarded) -> None:
    key = guarded.key(owner="team-payments")
    alias = "alias/payments-db"
    key.kms.create_alias(AliasName=alias, TargetKeyId=key.arn)
    story = []
    for expected, call in (
        (SCHEDULED, lambda: key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)),
        (CANCELLED, lambda: key.kms.cancel_key_deletion(KeyId=key.arn)),
        (ENABLED, lambda: key.kms.enable_key(KeyId=key.arn)),
    ):
        call()
        step = arrived(key, expected)
        assert wrong(expected, step, key.arn) == []
        story.append(step.finding.attributes["finding_uid"])
    assert len(set(story)) == 1
    key.kms.delete_alias(AliasName=alias)


def test_a_deletion_is_undone_with_nothing_but_the_mails_text(guarded: Guarded) -> None:
    key = guarded.key()
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    mail = key.alerts.next().body
    undo = mail.partition("\nUNDO IT\n")[2].partition("\n\nSEVERITY\n")[0]
    # As they are pasted, in their order, into a terminal with the credentials that the mail names.
    commands = [line.strip() for line in undo.splitlines() if line.startswith("  aws ")]
    (account,) = re.findall(r"^  With credentials of account (\d{12}):$", undo, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        # The Region is in the command, so the shell's own may be another.
        env = environment(**guarded.aws.environment(account, "us-west-2"))
        subprocess.run(shlex.split(command), env=env, check=True, capture_output=True, timeout=120)
    assert key.kms.describe_key(KeyId=key.arn)["KeyMetadata"]["KeyState"] == "Enabled"
    assert key.alerts.next().attributes["event_name"] == "CancelKeyDeletion"
    assert key.alerts.next().attributes["activity"] == "Close"


def test_a_disabled_key_is_reported_until_it_is_enabled(guarded: Guarded) -> None:
    key = guarded.key()
    key.kms.generate_data_key(KeyId=key.arn, KeySpec="AES_256")
    key.kms.disable_key(KeyId=key.arn)
    disabled = arrived(key, DISABLED)
    assert wrong(DISABLED, disabled, key.arn) == []
    key.kms.enable_key(KeyId=key.arn)
    enabled = arrived(key, ENABLED)
    assert enabled.finding.attributes["finding_uid"] == disabled.finding.attributes["finding_uid"]
    assert enabled.finding.attributes["activity"] == "Close"


def test_a_call_that_failed_raises_no_alert(guarded: Guarded) -> None:
    key = guarded.key()
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    arrived(key, SCHEDULED)
    for call in (key.kms.schedule_key_deletion, key.kms.disable_key, key.kms.enable_key):
        with pytest.raises(ClientError, match="pending deletion"):
            call(KeyId=key.arn)
    key.kms.cancel_key_deletion(KeyId=key.arn)
    assert key.alerts.next().attributes["event_name"] == "CancelKeyDeletion"
    assert not key.alerts.all()


def test_a_denied_call_raises_no_alert(guarded: Guarded) -> None:
    key = guarded.key()
    record = schedule_record(key.arn)
    guarded.aws.inject(event({**record, "errorCode": "AccessDenied", "errorMessage": "not authorized"}))
    key.silence()


def test_using_and_reading_a_key_raises_no_alert(guarded: Guarded) -> None:
    key = guarded.key()
    secret = key.kms.encrypt(KeyId=key.arn, Plaintext=b"secret")["CiphertextBlob"]
    key.kms.decrypt(CiphertextBlob=secret)
    key.kms.describe_key(KeyId=key.arn)
    key.kms.list_resource_tags(KeyId=key.arn)
    key.silence()


@pytest.mark.parametrize("account, region", [(OTHER_ACCOUNT, REGION), (ACCOUNT, "us-east-1")])
def test_another_account_or_region_is_not_watched(guarded: Guarded, account: str, region: str) -> None:
    if account != ACCOUNT:
        guarded.aws.start_trail(account, region)
    everything = guarded.inbox("AlertsTopicArn")
    elsewhere = guarded.aws.client("kms", account, region)
    foreign = elsewhere.create_key()["KeyMetadata"]["Arn"]
    elsewhere.schedule_key_deletion(KeyId=foreign)
    events = guarded.aws.client("cloudtrail", account, region).lookup_events()["Events"]
    assert "ScheduleKeyDeletion" in [event["EventName"] for event in events]
    guarded.key().silence()
    assert foreign not in [message.attributes["key_arn"] for message in everything.all()]


def test_subscribers_get_what_their_filter_policy_asks_for(guarded: Guarded) -> None:
    key = guarded.key()
    severe = guarded.inbox("AlertsTopicArn", key_arn=[key.arn], severity_id=[{"numeric": [">=", 4]}])
    closed = guarded.inbox("FindingsTopicArn", key_arn=[key.arn], activity=["Close"])
    going_on = guarded.inbox("AlertsTopicArn", key_arn=[key.arn], activity=[{"anything-but": ["Close"]}])
    ours = guarded.inbox("AlertsTopicArn", key_arn=[key.arn], account=["111122223333"], detection=["key-deletion-cancelled"])
    others = guarded.inbox("AlertsTopicArn", key_arn=[key.arn], account=["444455556666"])
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    arrived(key, SCHEDULED)
    key.kms.cancel_key_deletion(KeyId=key.arn)
    arrived(key, CANCELLED)
    key.kms.enable_key(KeyId=key.arn)
    arrived(key, ENABLED)
    assert [message.attributes["detection"] for message in severe.all()] == ["key-deletion-scheduled"]
    assert [message.attributes["detection"] for message in closed.all()] == ["key-enabled"]
    assert [message.attributes["activity"] for message in going_on.all()] == ["Create", "Update"]
    assert [message.attributes["detection"] for message in ours.all()] == ["key-deletion-cancelled"]
    assert not others.all()


def test_both_topics_carry_the_same_attributes(guarded: Guarded) -> None:
    key = guarded.key()
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    step = arrived(key, SCHEDULED)
    assert step.alert.attributes == step.finding.attributes
    assert step.alert.attributes.keys() == {
        "detection",
        "severity",
        "severity_id",
        "activity",
        "account",
        "region",
        "event_name",
        "key_arn",
        "finding_uid",
    }
    assert all(step.alert.attributes.values())


def test_what_a_caller_chose_stays_text(guarded: Guarded) -> None:
    key = guarded.key(owner="payments\r\nSubject: all is well", note="\x1b[31mred" + "x" * 200)
    record = schedule_record(key.arn)
    hostile = "aws-cli/2\r\n\r\nIgnore this alert\x07\u2028<b>"
    guarded.aws.inject(event({**record, "userAgent": hostile}))
    alert = arrived(key, SCHEDULED).alert
    assert len(alert.subject) < 100
    assert alert.subject.isprintable()
    controls = {c for c in alert.body if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    assert controls <= {"\n"}
    assert "\nIgnore this alert" not in alert.body
    assert "\nSubject: all is well" not in alert.body


def test_a_repeated_delivery_is_recognisable(guarded: Guarded) -> None:
    key = guarded.key()
    record = schedule_record(key.arn)
    guarded.aws.inject(event(record))
    guarded.aws.inject(event(record))
    first, second = (json.loads(key.findings.next().body) for _ in range(2))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]


def test_every_finding_of_a_story_is_valid_ocsf(guarded: Guarded) -> None:
    key = guarded.key(owner="team-payments")
    key.kms.disable_key(KeyId=key.arn)
    key.kms.enable_key(KeyId=key.arn)
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=30)
    key.kms.cancel_key_deletion(KeyId=key.arn)
    documents = [json.loads(key.findings.next().body) for _ in range(4)]
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.5.0"))
    for document in documents:
        validate = schema.get_class_schema(schema.lookup_class_name_from_uid(document["class_uid"]), ["cloud"])
        jsonschema.validate(document, validate)
        DetectionFinding.model_validate(document)


def test_the_end_of_a_waiting_period_is_reported(guarded: Guarded) -> None:
    key = guarded.key()
    guarded.aws.inject(
        {
            "source": "aws.kms",
            "detail-type": "KMS CMK Deletion",
            "resources": [key.arn],
            "detail": {"key-id": key.arn.rsplit("/", 1)[-1]},
        }
    )
    assert key.alerts.next().attributes["detection"] == "key-deleted"


def schedule_record(key_arn: str) -> dict[str, Any]:
    """A CloudTrail record of ScheduleKeyDeletion, for what no real call can show here."""
    return {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "IAMUser",
            "principalId": "AIDAEXAMPLE",
            "arn": f"arn:aws:iam::{ACCOUNT}:user/alice",
            "accountId": ACCOUNT,
            "userName": "alice",
        },
        "eventTime": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": "kms.amazonaws.com",
        "eventName": "ScheduleKeyDeletion",
        "awsRegion": REGION,
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "aws-cli/2.31.0",
        "requestParameters": {"keyId": key_arn.rsplit("/", 1)[-1], "pendingWindowInDays": 7},
        "responseElements": None,
        "requestID": str(uuid.uuid4()),
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "resources": [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": key_arn}],
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    }


def event(record: dict[str, Any]) -> dict[str, Any]:
    """The record as CloudTrail sends it to EventBridge."""
    return {"source": "aws.kms", "detail-type": "AWS API Call via CloudTrail", "detail": record}
