"""The calls of the guard and of its operators, judged by a policy engine: each is allowed, and each permission has one."""

import re
from fnmatch import fnmatchcase

import pytest

from calls import all_calls, made_in
from deployed import ROOT
from engine import judge
from reference import actions, many
from settings import document, instead, places, role_of

PLACES = places()


def unexpected(expected, place, requests):
    answers = judge(place.documents(), requests)
    return [
        f"{answer}: {r['principal']} {r['action']} {r['resource']} {r['context']}"
        for answer, r in zip(answers, requests, strict=True)
        if answer not in expected
    ]


def requests(place, calls):
    return [
        place.request(c["principal"], c["action"], c["resource"], account=c.get("account"), context=c.get("context"))
        for c in made_in(place, calls)
    ]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_call_is_allowed(place):
    asked = requests(place, all_calls())
    assert len(asked) > 100
    denied = unexpected({"Allowed"}, place, asked)
    assert not denied, "\n".join(denied)


def test_every_permission_has_a_call_that_needs_it():
    needed, given = {}, {}
    for place in PLACES:
        for call in made_in(place, all_calls()):
            needed.setdefault(role_of(call["principal"]), set()).add(call["action"].lower())
        for role, policies in place.identities.items():
            statements = [statement for policy in policies.values() for statement in policy["Statement"]]
            given.setdefault(role, set()).update(action for of in statements for action in many(of["Action"]))
    idle = [
        f"{role} may {action}"
        for role, patterns in given.items()
        for action in sorted(patterns)
        if not any(fnmatchcase(call, action.lower()) for call in needed.get(role, ()))
    ]
    assert not idle, "\n".join(idle)


def test_every_operation_that_the_code_calls_is_among_the_calls():
    calls = {call["action"] for call in all_calls()}
    services = {action.partition(":")[0] for action in calls}
    # Lambda checks Invoke as InvokeFunction; several services have a ListAliases.
    operations = {"invoke": {"lambda:InvokeFunction"}}
    for service in services:
        for action in actions(f"{service}:*"):
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", action["name"]).lower()
            operations.setdefault(name, set()).add(f"{service}:{action['name']}")
    # Needs no permission.
    del operations["get_caller_identity"]
    code = "".join(file.read_text().split("#[cfg(test)]")[0] for file in (ROOT / "src").rglob("*.rs"))
    called = {name for name in re.findall(r"\.(\w+)\(\)", code) if name in operations}
    assert len(called) > 30
    assert {name for name in called if not operations[name] & calls} == set()


def test_recorded_call_of_a_session_is_judged_by_its_role_and_names_of_other_deployments_are_known():
    line = {
        "place": "single",
        "principal": "arn:aws:sts::111122223333:assumed-role/kms-key-guard-AlertFunctionRole-0QX9ZZ81M2AB/kms-key-guard-alert",
        "action": "sqs:SendMessage",
        "resource": "arn:aws:sqs:eu-central-1:111122223333:kms-key-guard-AlertFailureQueue-7YB3DK2LPW1C",
    }
    elsewhere = line | {"resource": line["resource"].replace("AlertFailure", "WatchFailure")}
    place = PLACES[0]
    asked = requests(place, [line, elsewhere])
    assert judge(place.documents(), asked) == ["Allowed", "ImplicitlyDenied"]


def test_each_statement_of_a_role_is_missed_when_it_is_taken_away():
    """So the engine does deny. A topic's policy lets the functions publish as well, an existing one needn't."""
    missed, there = set(), set()
    for place in (place for place in PLACES if place.partition == "aws"):
        asked, taken, rests = [], [], {}
        for request in requests(place, all_calls()):
            for name in request["identity"]:
                policy = place.identities[role_of(request["principal"])][name]
                for statement in policy["Statement"]:
                    rest = f"{name} without {statement['Sid']}"
                    rests[rest] = document(*(other for other in policy["Statement"] if other is not statement))
                    asked.append(instead(request, name, rest))
                    taken.append(rest)
        there |= set(taken)
        answers = judge(place.documents() | rests, asked)
        missed |= {rest for rest, answer in zip(taken, answers, strict=True) if answer != "Allowed"}
    assert len(there) > 40
    assert there - missed == set()
