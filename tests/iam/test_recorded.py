"""What the guard's roles and its operators really called on the local AWS, judged by a policy engine.

The end-to-end tests write it down (local/emulator/recorder.py), so this comes after them.
"""

import json

import pytest

from calls import all_calls, made_in
from deployed import ACCOUNT, REGION, ROOT
from engine import judge
from settings import organization, places, role_of, single

RECORDED = ROOT / ".local/calls"
LOCAL_REGION = "eu-west-1"

PLACES = {"single": single("aws"), "organization": organization("aws")}
# Whose calls have to be there, by the names that the templates give the roles.
CALLERS = {
    "single": {"AlertFunctionRole", "WatchFunctionRole", "keyguard-doctor", "keyguard-prove"},
    "organization": {"AlertFunctionRole", "WatchFunctionRole", "keyguard-doctor", "kms-key-guard-spoke-reader"},
}
# Where a test sends the functions on purpose.
ASTRAY = {f"arn:aws:sns:{REGION}:{ACCOUNT}:nowhere"}
# doctor --prove asks what doctor asks, too.
MORE = {"keyguard-prove": "keyguard-doctor"}


def caller(role):
    """A role by its name in CALLERS: without its stack's, and the letters that CloudFormation ends it with."""
    name = role.rpartition("/")[2]
    return name.removeprefix("kms-key-guard-").removesuffix("-1A2B3C4D5E6F") if name.endswith("-1A2B3C4D5E6F") else name


def as_well(role):
    """The role, and the one whose permissions its operator has besides."""
    return [role, *(role.replace(own, other) for own, other in MORE.items() if role.endswith(own))]


def recorded(name):
    """The calls that were written down, with the names that the place's stacks have."""
    files = sorted((RECORDED / name).glob("*.jsonl"))
    assert files, f"{RECORDED / name} has no calls: make test writes them down"
    lines = {line.replace(LOCAL_REGION, REGION) for file in files for line in file.read_text().splitlines()}
    return list(made_in(PLACES[name], [json.loads(line) | {"place": name} for line in sorted(lines)]))


def contexts(place):
    """What condition keys the declared calls have, which the local AWS doesn't know."""
    return {(role_of(c["principal"]), c["action"]): c.get("context") for c in made_in(place, all_calls())}


@pytest.mark.parametrize("name", PLACES)
def test_every_recorded_call_is_allowed(name):
    place, asked = PLACES[name], []
    known = contexts(place)
    for call in recorded(name):
        role = role_of(call["principal"])
        assumed = call["resource"] if call["action"] == "sts:AssumeRole" else role
        if not {role, assumed} <= place.identities.keys() or call["resource"] in ASTRAY:
            continue  # a spoke's role, in an account that the place doesn't have
        names = as_well(role)
        identity = sorted({policy for of in names for policy in place.identities[of]})
        context = next((known[of, call["action"]] for of in names if (of, call["action"]) in known), None)
        asked.append(place.request(call["principal"], call["action"], call["resource"], context=context, identity=identity))
    answers = judge(place.documents(), asked)
    refused = [
        f"{answer}: {r['principal']} {r['action']} {r['resource']}"
        for answer, r in zip(answers, asked, strict=True)
        if answer != "Allowed"
    ]
    assert CALLERS[name] <= {caller(r["principal"]) for r in asked}
    assert len(asked) > 60
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize("name", PLACES)
def test_every_recorded_action_is_declared(name):
    """So the other tests judge it in every place and partition."""
    place = PLACES[name]
    declared = {(role_of(c["principal"]), c["action"]) for of in places() for c in made_in(of, all_calls())}
    made = {(role_of(c["principal"]), c["action"]) for c in recorded(name)}
    ours = {(role, action) for role, action in made if role in place.identities}
    assert {(role, action) for role, action in ours if not any((of, action) in declared for of in as_well(role))} == set()
