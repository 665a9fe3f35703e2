"""The policies that the runbook hands out: they parse, cfn-lint takes them, and those that prevent only deny.

cfn-lint knows the actions and the form of a policy; which condition keys there are, of which type and for which action,
stands here, from https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html
"""

import json
import re

import pytest

from deployed import ROOT
from linting import cfn_lint

ALL = sorted((ROOT / "docs/policies").glob("*.json"))
# What prevents denies; the rest is what an operator needs for a command, tests/iam has more on it.
FILES = [file for file in ALL if file.name.startswith(("scp-", "key-policy-"))]
POLICIES = pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])

# condition key -> operators of its type, and the actions it exists for (None: every action)
CONDITION_KEYS = {
    "aws:PrincipalArn": ({"ArnNotLike"}, None),
    "kms:BypassPolicyLockoutSafetyCheck": ({"Bool"}, {"kms:CreateKey", "kms:PutKeyPolicy"}),
    "kms:ExpirationModel": ({"StringEquals"}, {"kms:ImportKeyMaterial"}),
    "kms:ScheduleKeyDeletionPendingWindowInDays": ({"NumericLessThan"}, {"kms:ScheduleKeyDeletion"}),
    "kms:TrailingDaysWithoutKeyUsage": ({"NumericLessThan"}, {"kms:DisableKey", "kms:ScheduleKeyDeletion"}),
}
# Whoever may do these can bring a key back, so no policy of ours takes them away.
WAY_BACK = {"kms:CancelKeyDeletion", "kms:EnableKey", "kms:ConnectCustomKeyStore"}
# Organizations takes at least this many characters, white space included.
LONGEST_SCP = 5_120


def policy(file):
    def without_repeats(pairs):
        assert len(dict(pairs)) == len(pairs), f"a name appears twice in {file.name}: {pairs}"
        return dict(pairs)

    return json.loads(file.read_text(), object_pairs_hook=without_repeats)


def is_scp(file):
    return file.name.startswith("scp-")


def many(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("file", ALL, ids=[file.stem for file in ALL])
def test_cfn_lint_understands_it(file, tmp_path):
    document = policy(file)
    if file.name == "role-trust.json":
        resource = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": document}}
    elif is_scp(file) or file not in FILES:
        # The nearest type whose policy cfn-lint reads: like an SCP it names no principal.
        resource = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": document}}
    else:
        resource = {"Type": "AWS::KMS::Key", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
        resource["Properties"] = {"EnableKeyRotation": True, "KeyPolicy": document}
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Policy": resource}}))
    assert cfn_lint(template) == []


@POLICIES
def test_it_denies_and_nothing_else(file):
    statements = policy(file)["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Deny"}
    assert len({statement["Sid"] for statement in statements}) == len(statements)
    for statement in statements:
        assert statement.keys() == {"Sid", "Effect", "Action", "Resource", "Condition"} | (
            set() if is_scp(file) else {"Principal"}
        )
        actions = set(many(statement["Action"]))
        assert all(re.fullmatch(r"(iam|kms):[A-Za-z]+", action) for action in actions), "each action by its full name"
        assert not actions & WAY_BACK


@POLICIES
def test_its_conditions_exist_for_its_actions(file):
    for statement in policy(file)["Statement"]:
        for operator, conditions in statement["Condition"].items():
            for key, value in conditions.items():
                operators, actions = CONDITION_KEYS[key]
                assert operator in operators
                assert actions is None or set(many(statement["Action"])) <= actions
                assert isinstance(value, str)
                assert not operator.startswith("Numeric") or value.isdecimal()
                assert operator != "Bool" or value in {"true", "false"}
                assert not operator.startswith("Arn") or re.fullmatch(r"arn:aws:iam::(\d{12}|\*):role/[\w-]+", value)


@pytest.mark.parametrize("file", ALL, ids=[file.stem for file in ALL])
def test_it_fits_and_the_runbook_explains_it(file):
    assert not is_scp(file) or len(file.read_text()) <= LONGEST_SCP
    assert f"(policies/{file.name})" in (ROOT / "docs/runbook.md").read_text()


def test_doctor_only_reads():
    """That it gives what doctor asks for, and no more, is a Rust test."""
    statements = policy(ROOT / "docs/policies/doctor.json")["Statement"]
    given = [action for statement in statements for action in many(statement["Action"])]
    assert given and all(re.fullmatch(r"[a-z]+:(Describe|Get|List|Test)[A-Za-z]+", action) for action in given)
