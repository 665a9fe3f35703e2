"""What `keyguard doctor` and the watch function compare a deployed guard with: src/coverage/expected.json, out of the templates.
And src/own.txt, by which the alert function knows what a call on the guard put back.

    python tests/template/expected.py    writes both anew

The library reads them instead of the templates: it needs neither YAML nor the SAM transform then. test_expected.py holds them
equal to the templates. One resource a line, so that a change shows as one.
"""

import json
import re
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from deployed import ACCOUNT, OPTED_IN, REGION, ROOT, Stack, source, transformed  # noqa: E402

FILE = ROOT / "src/coverage/expected.json"
OWN = ROOT / "src/own.txt"

# Of every resource it is checked that it is there; of these also what AWS says of these properties.
COMPARED = {
    "AWS::CloudWatch::Alarm": [
        "AlarmActions", "ComparisonOperator", "DatapointsToAlarm", "Dimensions", "EvaluationPeriods", "MetricName", "Namespace",
        "Period", "Statistic", "Threshold", "TreatMissingData",
    ],
    "AWS::Events::Rule": ["EventPattern", "ScheduleExpression", "State", "Targets"],
    "AWS::Lambda::Function": ["Environment"],
    "AWS::Scheduler::Schedule": [
        "EndDate", "FlexibleTimeWindow", "ScheduleExpression", "ScheduleExpressionTimezone", "StartDate", "State", "Target",
    ],
}  # fmt: skip


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def small(node):
    """The same, with JSON in texts (patterns) on one line."""
    if isinstance(node, dict):
        return {key: small(value) for key, value in node.items()}
    if isinstance(node, list):
        return [small(value) for value in node]
    if isinstance(node, str) and node.startswith("{") and node.endswith("}\n"):
        return compact(json.loads(node))
    return node


def part(resource):
    kept = {
        name: small(value)
        for name, value in resource.get("Properties", {}).items()
        if name in COMPARED.get(resource["Type"], ())
    }
    rest = {name: resource[name] for name in ("Type", "Condition") if name in resource}
    return rest | ({"Properties": kept} if kept else {})


def lines(template, indent):
    """A template as JSON: parameters with their defaults, conditions, resources, each on a line."""
    sections = {
        "Parameters": {
            name: {"Default": parameter["Default"]} if "Default" in parameter else {}
            for name, parameter in template["Parameters"].items()
        },
        "Conditions": template["Conditions"],
        "Resources": {name: part(resource) for name, resource in template["Resources"].items()},
    }
    texts = []
    for section, entries in sections.items():
        rows = ",\n".join(f"{indent}  {json.dumps(name)}: {compact(entry)}" for name, entry in sorted(entries.items()))
        texts.append(f'{indent}"{section}": {{\n{rows}\n{indent}}}')
    return ",\n".join(texts)


def rendered():
    defaults = {name: str(p.get("Default", "")) for name, p in source()["Parameters"].items()}
    guard = transformed("template.yaml", tuple(sorted(defaults.items())), "eu-central-1")
    spoke = source("stackset/spoke.yaml")
    return (
        "{\n"
        f'  "Compared": {compact(COMPARED)},\n'
        f'  "Guard": {{\n{lines(guard, "    ")}\n  }},\n'
        f'  "Spoke": {{\n{lines(spoke, "    ")}\n  }}\n'
        "}\n"
    )


# What stands for a stack's own names: as src/own.rs writes them.
STACK = "name-of-the-stack"
NEUTRAL = [
    (rf"arn:aws:sns:{REGION}:{ACCOUNT}:{STACK}-AlertsTopic-1A2B3C4D5E6F", "${alerts}"),
    (rf"arn:aws:sns:{REGION}:{ACCOUNT}:{STACK}-FindingsTopic-1A2B3C4D5E6F", "${findings}"),
    (rf"arn:aws:sns:{REGION}:{ACCOUNT}:{STACK}-ChatTopicNotifications-1A2B3C4D5E6F", "${chat}"),
    (rf"{STACK}-(\w+)-1A2B3C4D5E6F", r"${stack}-\1"),
    (r"arn:aws:", "arn:${partition}:"),
    (rf":{REGION}:", ":${region}:"),
    (rf"([:/\"]){ACCOUNT}(?=[:/\"])", r"\1${account}"),
    (STACK, "${stack}"),
]  # fmt: skip
# How a part's properties are called in CloudTrail's records where that isn't the property's own name.
ALARM = ["ComparisonOperator", "Dimensions", "EvaluationPeriods", "MetricName", "Namespace", "Period", "Statistic", "Threshold", "TreatMissingData"]  # fmt: skip
SCHEDULE = ["FlexibleTimeWindow", "ScheduleExpression", "Target"]


def recorded(node):
    """The same with the fields as CloudTrail's records spell them."""
    if isinstance(node, dict):
        return {key[0].lower() + key[1:]: recorded(value) for key, value in node.items()}
    return [recorded(value) for value in node] if isinstance(node, list) else node


def settings(parameters):
    """What calls on the guard's parts set, by the part's name: as a record holds it, with neutral names."""
    stack = Stack(parameters, name=STACK)
    found = {}
    for name, pattern in stack.patterns(besides=()).items():
        properties = stack.properties(name)
        found["pattern." + properties["Name"].removeprefix(f"{STACK}-rule.")] = json.loads(pattern)
        if name != "HubHeartbeatRule":
            for target in stack.deployed(recorded(properties["Targets"])):
                assert found.setdefault(f"target.{target['id']}", target) == target
    for properties in stack.of_type("AWS::Lambda::EventInvokeConfig").values():
        function = properties["FunctionName"].strip("<>")
        kept = recorded({k: v for k, v in properties.items() if k not in ("FunctionName", "Qualifier")})
        kept["destinationConfig"]["onFailure"].pop("type", None)
        found |= {f"{function}.{name}": stack.deployed(value) for name, value in kept.items()}
    for queue, properties in stack.of_type("AWS::SQS::Queue").items():
        found |= {f"{queue}.{name}": str(value).lower() for name, value in properties.items()}
    for name, properties in stack.of_type("AWS::SNS::TopicPolicy").items():
        found[name] = stack.deployed(properties["PolicyDocument"])
    for properties in stack.of_type("AWS::CloudWatch::Alarm").values():
        kept = {name: properties[name] for name in ALARM if name in properties}
        found["alarm." + properties["AlarmName"].removeprefix(f"{STACK}.")] = stack.deployed(recorded(kept))
    for name, properties in stack.of_type("AWS::Scheduler::Schedule").items():
        found[name] = stack.deployed(recorded({key: properties[key] for key in SCHEDULE}))
    return found


def neutral(value):
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for own, name in NEUTRAL:
        text = re.sub(own, name, text)
    return text


def own():
    """Every setting that no parameter of the stack decides, with what it is known by."""
    hub = {"OrganizationId": "o-a1b2c3d4e5", "CloudTrailLogGroupName": "trail", "ReportDeniedAttempts": "true", "ReportLostKeyUse": "true"}
    other = OPTED_IN | hub | {"MassEventThreshold": "77", "SweepHour": "6", "EnrichTimeoutMs": "0"}
    same = set()
    for chat in ({"ChatTopic": "false"}, {"ChatTopic": "true"}):
        one, two = settings(hub | chat), settings(other | chat)
        assert one.keys() == two.keys()
        same |= {(name, neutral(value)) for name, value in one.items() if neutral(value) == neutral(two[name])}
    return "".join(f"{name} {uuid.uuid5(uuid.UUID(int=0), text).hex}\n" for name, text in sorted(same))


if __name__ == "__main__":
    FILE.write_text(rendered())
    OWN.write_text(own())
