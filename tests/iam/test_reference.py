"""Every policy of the templates and the docs against AWS's Service Authorization Reference."""

import json

import pytest

from deployed import ROOT
from reference import faults
from settings import places, policies

FILES = sorted([*(ROOT / "docs/policies").glob("*.json"), ROOT / "stackset/scp.json"])


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_policy_file_says_what_aws_knows(file):
    assert faults(json.loads(file.read_text()), names_resources="trust" not in file.stem) == []


@pytest.mark.parametrize("place", places(), ids=str)
def test_template_says_what_aws_knows(place):
    found = [
        f"{name}: {fault}"
        for stack in place.stacks
        for name, kind, _, policy in policies(stack)
        for fault in faults(policy, names_resources=kind != "trust")
    ]
    assert found == []


def one(**statement):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*"} | statement]}


BUS = "arn:aws:events:*:111122223333:event-bus/default"
FROM_US = {"events:source": "kms-key-guard"}
FAULTY = {
    "an action that doesn't exist": (one(Action="kms:DescribeKeys"), "kms:DescribeKeys isn't an action"),
    "a service that doesn't exist": (one(Action="kmz:DescribeKey"), "isn't an action"),
    "everything but": (one(NotAction="kms:DescribeKey"), "NotAction reaches further"),
    "a resource for an action without any": (
        one(Action="cloudwatch:DescribeAlarmsForMetric", Resource="arn:aws:cloudwatch:*:111122223333:alarm:*"),
        "cloudwatch:DescribeAlarmsForMetric takes no resource: only * lets it through",
    ),
    "another type of resource": (
        one(Action="kms:DescribeKey", Resource="arn:aws:kms:eu-central-1:111122223333:alias/*"),
        "kms:DescribeKey takes key, and no resource of the statement is one",
    ),
    "the ARN of another service": (
        one(Action=["sns:Publish", "sqs:SendMessage"], Resource="arn:aws:sqs:eu-central-1:111122223333:queue"),
        "sns:Publish takes topic, and no resource of the statement is one",
    ),
    "a resource that no action is about": (
        one(Action="sns:Publish", Resource=["arn:aws:sns:*:*:topic", "arn:aws:sqs:*:*:queue"]),
        "arn:aws:sqs:*:*:queue is nothing that an action of the statement takes",
    ),
    "a reference that leads nowhere": (one(Action="sns:Publish", Resource="<AlertsTopic>"), "no resource of the statement"),
    "several values without a set operator": (
        one(Action="events:PutEvents", Resource=BUS, Condition={"StringEquals": FROM_US}),
        "events:source has several values",
    ),
    "all of none": (
        one(Action="events:PutEvents", Resource=BUS, Condition={"ForAllValues:StringEquals": FROM_US}),
        "events:source may be absent",
    ),
    "one value with a set operator": (
        one(Action="kms:Decrypt", Condition={"ForAnyValue:StringEquals": {"kms:ViaService": "sns.eu-central-1.amazonaws.com"}}),
        "kms:ViaService has one value",
    ),
    "a condition key that doesn't exist": (
        one(Action="kms:DescribeKey", Condition={"StringEquals": {"kms:KeyAlias": "x"}}),
        "kms:KeyAlias isn't a condition key",
    ),
    "another action's condition key": (
        one(Action="kms:DescribeKey", Condition={"NumericLessThan": {"kms:TrailingDaysWithoutKeyUsage": "90"}}),
        "kms:TrailingDaysWithoutKeyUsage is never in a request for kms:DescribeKey",
    ),
    "another type's operator": (
        one(Action="kms:ScheduleKeyDeletion", Condition={"StringEquals": {"kms:TrailingDaysWithoutKeyUsage": "90"}}),
        "which StringEquals doesn't compare",
    ),
    "no truth value": (
        one(Action="sns:Publish", Condition={"Bool": {"aws:SecureTransport": "yes"}}), "aws:SecureTransport is true or false"
    ),
    "no ARN": (one(Action="sns:Publish", Condition={"ArnLike": {"aws:SourceArn": "111122223333"}}), "which aren't ARNs"),
}  # fmt: skip


@pytest.mark.parametrize(("policy", "said"), FAULTY.values(), ids=FAULTY)
def test_fault_is_found_and_named(policy, said):
    (fault,) = faults(policy)
    assert said in fault


def test_right_policy_has_no_fault():
    always = {"ForAllValues:StringEquals": FROM_US, "Null": {"events:source": "false"}}
    assert faults(one(Action="events:PutEvents", Resource=BUS, Condition=always)) == []
    assert faults(one(Action="kms:GenerateDataKey*", Resource="arn:aws:kms:*:111122223333:key/*")) == []
    deny = one(Effect="Deny", Principal="*", Action="sqs:*", Resource="arn:aws:sqs:*:*:q", Condition={"Bool": {"aws:SecureTransport": "false"}})
    assert faults(deny) == []
    muting = {"Action": "cloudwatch:PutAlarmMuteRule", "Resource": "arn:aws:cloudwatch:*:*:alarm:ours"}
    assert faults(one(Effect="Deny", **muting)) == []
    (fault,) = faults(one(**muting))
    assert "takes alarm-mute-rule" in fault
