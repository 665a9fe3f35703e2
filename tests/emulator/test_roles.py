"""On the local AWS a role is assumed by whom it trusts, in another account too, and functions are their role."""

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import Inbox, LocalAws

from . import functions

REGION = "eu-central-1"


def account_id() -> str:
    return f"{uuid.uuid4().int % 10**12:012}"


def role(aws: LocalAws, account: str, principal: Any, condition: dict[str, Any] | None = None) -> str:
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust |= {"Condition": condition} if condition else {}
    return aws.client("iam", account).create_role(
        RoleName="reader", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
    )["Role"]["Arn"]


def assume(aws: LocalAws, account: str, role_arn: str, **parameters: str) -> dict[str, str]:
    sts = aws.client("sts", account, REGION)
    session = sts.assume_role(RoleArn=role_arn, RoleSessionName="guard", **parameters)["Credentials"]
    return {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }


def test_a_session_in_another_account_acts_there_and_is_recorded_there(bare: LocalAws) -> None:
    hub, spoke = account_id(), account_id()
    bare.start_trail(spoke, REGION)
    events, sqs = bare.client("events", spoke, REGION), bare.client("sqs", spoke, REGION)
    inbox = Inbox(sqs, sqs.create_queue(QueueName="q")["QueueUrl"])
    events.put_rule(Name="kms", EventPattern='{"source": ["aws.kms"]}')
    events.put_targets(Rule="kms", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{REGION}:{spoke}:q"}])
    key = bare.client("kms", spoke, REGION).create_key()["KeyMetadata"]["Arn"]
    reader = role(bare, spoke, {"AWS": f"arn:aws:iam::{hub}:root"})
    kms = bare.client("kms", hub, REGION, **assume(bare, hub, reader))
    assert [entry["KeyArn"] for entry in kms.list_keys()["Keys"]] == [key]
    kms.disable_key(KeyId=key)
    record = json.loads(inbox.next(lambda message: "DisableKey" in message.body).body)["detail"]
    assert record["recipientAccountId"] == spoke
    assert record["userIdentity"]["arn"] == f"arn:aws:sts::{spoke}:assumed-role/reader/guard"
    assert record["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] == reader


@pytest.mark.parametrize(
    "trust",
    [
        lambda hub: ({"AWS": "444455556666"}, None),
        lambda hub: ({"AWS": f"arn:aws:iam::{hub}:role/function"}, None),
        lambda hub: ({"Service": "lambda.amazonaws.com"}, None),
        lambda hub: ({"AWS": hub}, {"StringEquals": {"sts:ExternalId": "another"}}),
        lambda hub: ("*", {"StringEquals": {"aws:PrincipalOrgID": "o-another"}}),
    ],
    ids=["another account", "a role only", "a service only", "another external id", "another organization"],
)
def test_a_role_refuses_whom_it_does_not_trust(bare: LocalAws, trust: Any) -> None:
    hub, spoke = account_id(), account_id()
    bare.organization(hub)
    reader = role(bare, spoke, *trust(hub))
    with pytest.raises(ClientError, match="AccessDenied") as refused:
        assume(bare, hub, reader, ExternalId="mine")
    assert f"User: arn:aws:iam::{hub}:root is not authorized" in str(refused.value)


def test_a_role_that_does_not_exist_is_refused_like_one_that_does_not_trust(bare: LocalAws) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        assume(bare, account_id(), f"arn:aws:iam::{account_id()}:role/reader")


def test_conditions_that_hold_let_in(bare: LocalAws) -> None:
    hub, spoke = account_id(), account_id()
    organization = bare.organization(hub, spoke)
    condition = {"StringEquals": {"aws:PrincipalOrgID": organization, "sts:ExternalId": "mine"}}
    assert assume(bare, hub, role(bare, spoke, {"AWS": hub}, condition), ExternalId="mine")


CALLER = """import boto3
sts = boto3.client("sts")
if "role" in event:
    key = sts.assume_role(RoleArn=event["role"], RoleSessionName="hub")["Credentials"]
    sts = boto3.client(
        "sts",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key["SessionToken"],
    )
return sts.get_caller_identity()["Arn"]"""


def test_a_function_is_its_role_and_assumes_others_as_it(bare: LocalAws) -> None:
    hub, spoke = account_id(), account_id()
    functions.create(bare, hub, REGION, "function", CALLER, Timeout=30)
    own = functions.invoke(bare, hub, REGION, "function", {})
    assert own == f"arn:aws:sts::{hub}:assumed-role/function/function"
    condition = {"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{hub}:role/function"}}
    reader = role(bare, spoke, {"AWS": f"arn:aws:iam::{hub}:role/function"}, condition)
    there = functions.invoke(bare, hub, REGION, "function", {"role": reader})
    assert there == f"arn:aws:sts::{spoke}:assumed-role/reader/hub"
