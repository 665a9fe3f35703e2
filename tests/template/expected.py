"""What `keyguard doctor` and the watch function compare a deployed guard with: src/coverage/expected.json, out of the templates.

    python tests/template/expected.py    writes it anew

The library reads it instead of the templates: it needs neither YAML nor the SAM transform then. test_expected.py holds it
equal to them. One resource a line, so that a change shows as one.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from deployed import ROOT, source, transformed  # noqa: E402

FILE = ROOT / "src/coverage/expected.json"

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


if __name__ == "__main__":
    FILE.write_text(rendered())
