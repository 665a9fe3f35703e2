"""1,200 generated key policies, judged by `keyguard replay` and by a policy engine that isn't ours.

The policy engine answers for the root user, a role and a user of the key's account, as they call from an address that no
policy names, at the time of the change: without a second factor, a tag or an organization, and not through an endpoint. What
they may do from there is what a policy takes away or leaves.

https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html
"""

import json
import random
import subprocess

import pytest

from deployed import ROOT
from engine import judge

KEYGUARD = ROOT / "target/debug/keyguard"

ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/0f1e2d3c-0000-4000-8000-000000000001"
IAM = f"arn:aws:iam::{ACCOUNT}"
ROOT_USER = f"{IAM}:root"
CALLERS = {"root": ROOT_USER, "role": f"{IAM}:role/somebody", "user": f"{IAM}:user/somebody"}
NOW = "2026-11-21T03:12:44Z"
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
WAY_IN = {"Effect": "Allow", "Principal": {"AWS": ROOT_USER}, "Action": "kms:*", "Resource": "*"}
WAY_BACK = ["kms:PutKeyPolicy", "kms:CancelKeyDeletion", "kms:EnableKey"]

# What a condition tells apart, and the callers above don't meet or do.
GUARDS = [
    {"NotIpAddress": {"aws:SourceIp": "192.0.2.1/32"}},
    {"NotIpAddressIfExists": {"aws:SourceIp": ["192.0.2.0/24", "10.0.0.0/8"]}},
    {"StringNotEquals": {"aws:SourceVpc": "vpc-0"}},
    {"StringNotEqualsIfExists": {"aws:SourceVpc": "vpc-0a1b2c3d"}},
    {"Null": {"aws:SourceVpce": "true"}},
    {"StringNotLike": {"aws:SourceVpce": "vpce-*"}},
    {"StringNotEquals": {"aws:PrincipalOrgID": "o-0"}},
    {"StringNotEquals": {"aws:ResourceTag/x": "y"}},
    {"Null": {"aws:ResourceTag/x": "true"}},
    {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
    {"Null": {"aws:MultiFactorAuthPresent": "true"}},
    {"StringNotEquals": {"aws:PrincipalTag/team": "security"}},
    {"DateGreaterThan": {"aws:CurrentTime": "2025-01-01T00:00:00Z"}},
    {"Bool": {"aws:SecureTransport": "true"}},
]
EVERYBODY = [{"Principal": "*"}, {"Principal": {"AWS": "*"}}, {"Principal": {"AWS": ROOT_USER}}, {"Principal": {"AWS": ACCOUNT}}]
# Sparing the root user in every spelling.
ALL_BUT_ROOT = [
    ({"Principal": "*"}, {"ArnNotEquals": {"aws:PrincipalArn": ROOT_USER}}),
    ({"Principal": {"AWS": "*"}}, {"ArnNotLike": {"aws:PrincipalArn": "arn:*:iam::*:root"}}),
    ({"Principal": "*"}, {"StringNotEquals": {"aws:PrincipalArn": [ROOT_USER, f"arn:aws:iam::444455556666:role/x"]}}),
    ({"Principal": "*"}, {"StringNotLike": {"aws:PrincipalArn": "*:root"}}),
    ({"Principal": "*"}, {"StringNotEquals": {"aws:PrincipalType": "Account"}}),
    ({"Principal": "*"}, {"StringEquals": {"aws:PrincipalType": ["AssumedRole", "User", "FederatedUser"]}}),
    ({"Principal": "*"}, {"StringLike": {"aws:PrincipalArn": [f"{IAM}:role/*", f"{IAM}:user/*"]}}),
    ({"NotPrincipal": {"AWS": ROOT_USER}}, {}),
    ({"NotPrincipal": {"AWS": [ROOT_USER, "arn:aws:iam::444455556666:root"]}}, {}),
]
# Harmless: it spares roles and users as well, or is about what takes no way back away and cuts nobody off.
HARMLESS = [
    {"Effect": "Deny", "Principal": "*", "Action": "kms:ScheduleKeyDeletion"},
    {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
    {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Condition": {"StringNotEquals": {"kms:CallerAccount": ACCOUNT}}},
    {"Effect": "Deny", "Principal": {"AWS": f"{IAM}:role/retired"}, "Action": "kms:*"},
    {"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Condition": {"StringEquals": {"aws:PrincipalTag/team": "guests"}}},
    {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
    {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Condition": {"DateLessThan": {"aws:CurrentTime": "2025-01-01T00:00:00Z"}}},
    {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Condition": {"DateGreaterThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
    {"Effect": "Deny", "Principal": "*", "Action": ["kms:Encrypt", "kms:GenerateDataKey*"]},
    {"Effect": "Allow", "Principal": {"Service": "logs.eu-west-1.amazonaws.com"}, "Action": ["kms:Encrypt*", "kms:Decrypt*"]},
    {"Effect": "Allow", "Principal": {"AWS": f"{IAM}:role/app"}, "Action": ["kms:Decrypt", "kms:DescribeKey"]},
]
# The account's own ways in, beside or instead of the plain one; with the conditions the callers meet.
WAYS_IN = [
    WAY_IN,
    WAY_IN | {"Principal": {"AWS": ACCOUNT}},
    WAY_IN | {"Principal": "*", "Condition": {"StringEquals": {"kms:CallerAccount": ACCOUNT}}},
    WAY_IN | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
    WAY_IN | {"Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
    WAY_IN | {"Condition": {"StringNotEquals": {"aws:PrincipalTag/team": "guests"}}},
    WAY_IN | {"Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
    WAY_IN | {"Condition": {"StringNotEquals": {"aws:ResourceTag/shut": "yes"}}},
]
# What isn't one: the account may not administer the key by it.
NO_WAYS_IN = [
    WAY_IN | {"Action": ["kms:Decrypt", "kms:Describe*"]},
    WAY_IN | {"Principal": {"AWS": f"{IAM}:role/app"}},
    WAY_IN | {"Principal": {"AWS": "arn:aws:iam::444455556666:root"}},
    WAY_IN | {"Condition": {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}},
    WAY_IN | {"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
    WAY_IN | {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}},
    WAY_IN | {"Condition": {"StringEquals": {"aws:ResourceTag/open": "yes"}}},
    WAY_IN | {"Resource": KEY.replace("0f1e", "1f1e")},
]
ADMINISTRATION = ["kms:*", "*", "kms:Put*", "kms:PutKeyPolicy", ["kms:EnableKey", "kms:PutKeyPolicy"], "kms:CancelKeyDeletion"]
USE = ["kms:*", "kms:Decrypt", ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"], "kms:De*"]


def merged(*conditions):
    all_of = {}
    for condition in conditions:
        for operator, keys in condition.items():
            all_of.setdefault(operator, {}).update(keys)
    return {"Condition": all_of} if all_of else {}


def generated(chance):
    """A policy of one of three kinds: a lockout, a cut-off, neither; each under up to two guards, among other statements."""
    pick = chance.choice
    guards = chance.sample(GUARDS, pick([0, 1, 1, 2]))
    statements = [{"Resource": "*"} | statement for statement in chance.sample(HARMLESS, chance.randrange(4))]
    way_in = [pick(WAYS_IN)]
    match pick(["denied", "denied", "not let in", "cut off", "harmless", "harmless"]):
        case "denied":
            statements.append({"Effect": "Deny", "Action": pick(ADMINISTRATION), "Resource": "*"} | pick(EVERYBODY) | merged(*guards))
        case "not let in":
            way_in = [pick(NO_WAYS_IN)]
        case "cut off":
            who, condition = pick(ALL_BUT_ROOT)
            few = guards[: pick([0, 0, 0, 1])]
            statements.append({"Effect": "Deny", "Action": pick(USE), "Resource": "*"} | who | merged(condition, *few))
    statements += way_in
    chance.shuffle(statements)
    return {"Version": "2012-10-17", "Statement": statements}


def context(caller, now=NOW):
    # AWS leaves these to the caller or the account, and they are as the module says.
    kind = {"root": "Account", "role": "AssumedRole", "user": "User"}[caller]
    return {
        "aws:PrincipalArn": CALLERS[caller],
        "aws:PrincipalAccount": ACCOUNT,
        "aws:PrincipalType": kind,
        "aws:SourceIp": "198.51.100.24",
        "aws:SecureTransport": "true",
        "aws:CurrentTime": now,
        "aws:ViaAWSService": "false",
        "aws:PrincipalIsAWSService": "false",
        "kms:CallerAccount": ACCOUNT,
    }


def request(policy, caller, action, **more):
    return {
        "principal": CALLERS[caller],
        "action": action,
        "resource": KEY,
        "account": ACCOUNT,
        "context": context(caller) | more,
        "identity": ["all"],
        "resource_policy": policy,
        "scp": [],
    }


def replayed(policies, *options):
    """The findings by the number of the policy."""
    records = "".join(
        json.dumps({
            "eventSource": "kms.amazonaws.com", "eventName": "PutKeyPolicy", "eventID": str(number), "eventTime": NOW,
            "awsRegion": "eu-west-1", "recipientAccountId": ACCOUNT, "eventType": "AwsApiCall",
            "requestParameters": {"keyId": KEY, "policyName": "default", "policy": json.dumps(policy)},
        }) + "\n"
        for number, policy in enumerate(policies)
    )
    command = [KEYGUARD, "replay", "--format", "ocsf", *options, "-"]
    run = subprocess.run(command, input=records, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    findings = map(json.loads, run.stdout.splitlines())
    return {int(finding["unmapped"]["event_id"]): finding for finding in findings}


def is_certain(finding):
    return "locks its account out" in finding["message"] or "put-key-policy --" in finding["remediation"]["desc"]


@pytest.fixture(scope="module")
def judged():
    """Each policy with what the policy engine says of it and what the guard does."""
    if not KEYGUARD.exists():
        pytest.fail("cargo test --all-features --no-run makes target/debug/keyguard, which is judged here")
    chance = random.Random(20261121)
    policies = [generated(chance) for _ in range(1_200)]
    documents = {"all": {"Version": "2012-10-17", "Statement": [ALL]}} | {str(n): p for n, p in enumerate(policies)}
    asked = [("root", action) for action in WAY_BACK] + [("role", "kms:Decrypt"), ("user", "kms:Decrypt")]
    answers = iter(judge(documents, [request(str(n), *one) for n in range(len(policies)) for one in asked]))
    findings = replayed(policies)
    return [
        (policy, {one: next(answers) for one in asked}, findings.get(number)) for number, policy in enumerate(policies)
    ]


def locks_out(answers):
    return any(answers["root", action] != "Allowed" for action in WAY_BACK)


def cuts_off(policy, answers):
    """The engine takes NotPrincipal with the account for the whole account; AWS takes it for the root user."""
    denied = all(answers[caller, "kms:Decrypt"] != "Allowed" for caller in ("role", "user"))
    listed = any("NotPrincipal" in statement and "Condition" not in statement for statement in policy["Statement"])
    return not locks_out(answers) and (denied or listed)


def test_engine_understands_every_request(judged):
    assert {answer for _, answers, _ in judged for answer in answers.values()} <= {
        "Allowed", "ImplicitlyDenied", "ExplicitlyDenied",
    }


def test_no_lockout_is_silent(judged):
    lockouts = [(policy, finding) for policy, answers, finding in judged if locks_out(answers)]
    assert len(lockouts) > 300
    silent = [json.dumps(policy) for policy, finding in lockouts if finding is None]
    assert not silent, "\n".join(silent)


def test_cut_offs_are_found(judged):
    cut_offs = [(policy, finding) for policy, answers, finding in judged if cuts_off(policy, answers)]
    assert len(cut_offs) > 80
    found = [f for _, f in cut_offs if f and f["finding_info"]["analytic"]["uid"] in ("key-policy-cutoff", "key-policy-lockout")]
    missed = [json.dumps(policy) for policy, finding in cut_offs if finding is None]
    assert len(found) >= 0.95 * len(cut_offs), "\n".join(missed)


def test_no_harmless_policy_is_called_certain(judged):
    harmless = [(p, f) for p, answers, f in judged if not locks_out(answers) and not cuts_off(p, answers)]
    assert len(harmless) > 250
    wrong = [f"{finding['message']} {finding['finding_info']['desc']}\n{json.dumps(p)}" for p, finding in harmless if finding and is_certain(finding)]
    assert not wrong, "\n".join(wrong)
    silent = [p for p, finding in harmless if finding is None]
    assert len(silent) > 100, "and many of them aren't even worth a look"
