"""The service control policies against everything that AWS lets be done to what they protect.

A new action of AWS's fails here until the policy denies it, or accepted.json says why it needn't.
"""

import json

import pytest

from deployed import ROOT
from engine import judge
from reference import type_of, writes
from settings import KEY_ID, MEMBER, document, organization

# What Organizations takes; its console takes the white space out.
# https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
LONGEST = 5_120
ACCEPTED = json.loads((ROOT / "tests/iam/accepted.json").read_text())
EVERYTHING = document({"Effect": "Allow", "Action": "*", "Resource": "*"})
PLACE = organization("aws")

ADMINISTRATOR = f"arn:aws:iam::{MEMBER}:role/admin"
STACK_SETS = f"arn:aws:iam::{MEMBER}:role/stacksets-exec-0123456789abcdef"
BREAK_GLASS = f"arn:aws:iam::{MEMBER}:role/kms-break-glass"
KINDS = {"AWS::Events::Rule", "AWS::IAM::Role", "AWS::SQS::Queue", "AWS::CloudWatch::Alarm"}


def spoke():
    """Every part of a spoke that can be changed, its stack, and the bus that its rules listen to."""
    stack = PLACE.stacks[1]
    home = f"{PLACE.region}:{MEMBER}"
    yield f"arn:aws:cloudformation:{home}:stack/StackSet-kms-key-guard-spoke-0f1e2d3c/0f1e2d3c-0000-4000-8000-000000000002"
    yield f"arn:aws:events:{home}:event-bus/default"
    for name, resource in stack.resources.items():
        # A queue's policy is the queue's.
        assert resource["Type"] in KINDS | {"AWS::SQS::QueuePolicy"}, f"{name}: a {resource['Type']} isn't tried here"
        if resource["Type"] in KINDS:
            yield stack.physical(name, "Arn")


PROTECTED = {
    "stackset/scp.json": [*spoke()],
    "docs/policies/scp-break-glass.json": [BREAK_GLASS, f"arn:aws:kms:{PLACE.region}:{MEMBER}:key/{KEY_ID}", "*"],
}
POLICIES = pytest.mark.parametrize("file", PROTECTED)


def kind_of(resource):
    """service:type of a resource; kms: for what KMS authorizes against none."""
    if resource == "*":
        return "kms:"
    service = resource.split(":")[2]
    return f"{service}:{type_of(resource, service)}"


def judged(file, principal, asked):
    scp = {"scp": json.loads((ROOT / file).read_text()), "everything": EVERYTHING}
    requests = [
        PLACE.request(principal, action, resource, account=MEMBER, identity=["everything"], context=context)
        # Of the policies on resources only a key's has to let its own account's administrators in.
        | {"scp": ["scp"], "resource_policy": PLACE.policy_on(resource) if ":key/" in resource else None}
        for action, resource, context in asked
    ]
    return judge(PLACE.documents() | scp, requests)


def accepted_in(file):
    """`service:Action service:type` of what the file may leave open."""
    rows = [(row["actions"], kind) for row in ACCEPTED[file] for kind in row["of"]]
    return {f"{kind.partition(':')[0]}:{action} {kind}" for actions, kind in rows for action in actions}


def changes(file):
    """(action, resource, context) of everything that changes something protected."""
    return [(action, resource, None) for resource in PROTECTED[file] for action in writes(*kind_of(resource).split(":"))]


@POLICIES
def test_every_change_is_denied_or_accepted_with_a_reason(file):
    accepted = accepted_in(file)
    asked = changes(file)
    assert len(asked) > 50
    denied, open_to_all = set(), set()
    for (action, resource, _), answer in zip(asked, judged(file, ADMINISTRATOR, asked), strict=True):
        assert answer in ("Allowed", "ExplicitlyDenied"), (answer, action, resource)
        (denied if answer == "ExplicitlyDenied" else open_to_all).add(f"{action} {kind_of(resource)}")
    assert open_to_all - accepted == set(), "neither denied nor accepted"
    assert accepted - open_to_all == set(), "accepted, and denied or no longer there"
    assert all(len(row["why"]) > 15 for row in ACCEPTED[file])


def test_stack_sets_may_change_all_of_the_spoke_and_nobody_their_role():
    asked = changes("stackset/scp.json")
    assert set(judged("stackset/scp.json", STACK_SETS, asked)) == {"Allowed"}
    posing = [(action, STACK_SETS, None) for action in writes("iam", "role")]
    for principal in (ADMINISTRATOR, STACK_SETS):
        answers = zip(posing, judged("stackset/scp.json", principal, posing), strict=True)
        open_to_all = {action for (action, _, _), answer in answers if answer == "Allowed"}
        assert open_to_all == {action.split()[0] for action in accepted_in("stackset/scp.json") if action.endswith(" iam:role")}


def test_break_glass_may_do_what_nobody_else_may():
    file = "docs/policies/scp-break-glass.json"
    key = PROTECTED[file][1]
    only_it = [
        ("kms:PutKeyPolicy", key, {"kms:BypassPolicyLockoutSafetyCheck": "true"}),
        ("kms:CreateKey", "*", {"kms:BypassPolicyLockoutSafetyCheck": "true"}),
        ("kms:ImportKeyMaterial", key, {"kms:ExpirationModel": "KEY_MATERIAL_EXPIRES"}),
    ]
    assert set(judged(file, ADMINISTRATOR, only_it)) == {"ExplicitlyDenied"}
    assert set(judged(file, BREAK_GLASS, only_it + changes(file))) == {"Allowed"}


def test_policies_fit():
    files = [ROOT / "stackset/scp.json", *(ROOT / "docs/policies").glob("scp-*.json")]
    assert len(files) > 3
    lengths = {file.name: len(json.dumps(json.loads(file.read_text()), separators=(",", ":"))) for file in files}
    assert [name for name, length in lengths.items() if length > LONGEST] == []
