"""The template's deadlines are those of the table in docs/architecture.md, and leave the code's enough room.

A Rust test holds the table to the code.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from local.rig.faults import template_timeout
from local.rig import REPEATS

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
FUNCTION = TEMPLATE["Resources"]["AlertFunction"]["Properties"]
RULES = [r["Properties"] for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::Events::Rule"]
EVENTS = [event["Properties"] for event in FUNCTION["Events"].values()]
TARGETS = [*EVENTS, *(target for rule in RULES for target in rule["Targets"] if target["Id"] != "self-check")]
QUEUES = [TEMPLATE["Resources"][name]["Properties"] for name in ("RuleDeadLetterQueue", "AlertFailureQueue")]


def in_template() -> dict[str, set[float]]:
    """The same for the template; a set, since some are said more than once."""
    invoke = FUNCTION["EventInvokeConfig"]
    return {
        "AlertFunction.Timeout": {FUNCTION["Timeout"]},
        "EnrichTimeoutMs": {TEMPLATE["Parameters"]["EnrichTimeoutMs"]["Default"] / 1000},
        "RetryPolicy.MaximumEventAgeInSeconds": {t["RetryPolicy"]["MaximumEventAgeInSeconds"] for t in TARGETS},
        "EventInvokeConfig.MaximumRetryAttempts": {invoke["MaximumRetryAttempts"]},
        "EventInvokeConfig.MaximumEventAgeInSeconds": {invoke["MaximumEventAgeInSeconds"]},
        "MessageRetentionPeriod": {queue["MessageRetentionPeriod"] for queue in QUEUES},
    }


def in_docs() -> dict[str, float]:
    """The table: `| what | 15 s | `name`, `name` |`."""
    section = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Time-outs\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| ([\d.]+)(?: s)? \| (`[^|]+`) \|$", section, re.MULTILINE)
    return {name: float(value) for value, names in rows for name in re.findall(r"`([^`]+)`", names)}


def test_table_says_what_the_template_says() -> None:
    docs = in_docs()
    assert {name: {docs[name]} for name in in_template()} == in_template()


@pytest.mark.parametrize("setting", ["Default", "MaxValue"])
def test_look_ups_and_publishing_fit_into_the_time_out(setting: str) -> None:
    look_ups = TEMPLATE["Parameters"]["EnrichTimeoutMs"][setting] / 1000
    assert look_ups + in_docs()["PUBLISH_RESERVE"] <= FUNCTION["Timeout"]


def test_matrix_runs_with_the_numbers_of_the_template() -> None:
    assert template_timeout() == FUNCTION["Timeout"]
    assert REPEATS == FUNCTION["EventInvokeConfig"]["MaximumRetryAttempts"]
