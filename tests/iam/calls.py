"""What the guard and its operators call: calls.jsonl, read off the code. What a local AWS wrote down while it ran is
compared with it by tests/recorded.

One call a line:

  place      where it is made: single, existing topics, organization; or any, in each of them
  principal  ARN of the role, or of a session of it
  action     as IAM names it
  resource   the ARN that AWS checks the action against, or * if it checks none
  context    condition keys that only this call has, if any
  account    whose permissions decide, where that isn't the resource's account

All as in the partition aws with the guard in eu-central-1 of account 111122223333; other partitions get the same calls. In
calls.jsonl a resource may stand for several: <AWS::Events::Rule> for each of that type in the guard's stack, and
<ALERTS_TOPIC_ARN> for what that variable of the alert function holds.
"""

import json
import re

from deployed import ROOT

DECLARED = ROOT / "tests/iam/calls.jsonl"
FIELDS = {"place", "principal", "action", "resource", "context", "account"}


def read(file):
    calls = [json.loads(line) for line in file.read_text().splitlines()]
    for number, call in enumerate(calls, 1):
        lacking, unknown = {"place", "principal", "action", "resource"} - call.keys(), call.keys() - FIELDS
        assert not lacking and not unknown, f"{file.name}:{number}: lacks {sorted(lacking)}, has {sorted(unknown)}"
    return calls


def all_calls():
    return read(DECLARED)


def made_in(place, calls):
    """The calls of a place, with the resources and names that it has."""
    stack = place.stacks[0]
    # CloudFormation ends the names that it makes in letters of its own.
    made = re.compile(rf"({stack.pseudo['AWS::StackName']}-(?:{'|'.join(stack.resources)}))-[0-9A-Za-z]+")
    for call in calls:
        if call["place"] in ("any", place.name):
            call = place.here(json.loads(made.sub(r"\1-1A2B3C4D5E6F", json.dumps(call))))
            yield from (call | {"resource": resource} for resource in _resources(stack, call["resource"]))


def _resources(stack, resource):
    name = re.fullmatch(r"<(.+)>", resource)
    if not name:
        return [resource]
    if "::" in name[1]:
        return [stack.physical(part, "Arn") for part in stack.of_type(name[1])]
    variables = stack.properties("AlertFunction")["Environment"]["Variables"]
    return [stack.deployed(variables[name[1]])]
