"""The deadlines fit together, and code, template and the table in docs/architecture.md agree about them."""

import re
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from local.faults import template_timeout
from local.rig import REPEATS

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
FUNCTION = TEMPLATE["Resources"]["AlertFunction"]["Properties"]
RULES = [r["Properties"] for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::Events::Rule"]
QUEUES = [r["Properties"] for r in TEMPLATE["Resources"].values() if r["Type"] == "AWS::SQS::Queue"]


def in_code() -> dict[str, float]:
    """The constants, in seconds or as a count."""
    text = "".join((ROOT / "src" / name).read_text() for name in ("aws.rs", "handler.rs"))
    found = re.findall(r"pub const (\w+): \w+ = (?:Duration::from_(millis|secs)\()?([\d_]+)\)?;", text)
    default = re.search(
        r"else \{ return Ok\(Duration::from_(millis|secs)\(([\d_]+)\)\)", (ROOT / "src" / "config.rs").read_text()
    )
    scale = {"millis": 0.001, "secs": 1.0, "": 1.0}
    return {
        name: scale[unit] * int(number) for name, unit, number in [*found, ("ENRICH_TIMEOUT_MS", *default.groups())]
    }


def in_template() -> dict[str, set[float]]:
    """The same for the template; a set, since some are said more than once."""
    invoke = FUNCTION["EventInvokeConfig"]
    return {
        "AlertFunction.Timeout": {FUNCTION["Timeout"]},
        "EnrichTimeoutMs": {TEMPLATE["Parameters"]["EnrichTimeoutMs"]["Default"] / 1000},
        "RetryPolicy.MaximumEventAgeInSeconds": {
            t["RetryPolicy"]["MaximumEventAgeInSeconds"] for r in RULES for t in r["Targets"]
        },
        "EventInvokeConfig.MaximumRetryAttempts": {invoke["MaximumRetryAttempts"]},
        "EventInvokeConfig.MaximumEventAgeInSeconds": {invoke["MaximumEventAgeInSeconds"]},
        "MessageRetentionPeriod": {queue["MessageRetentionPeriod"] for queue in QUEUES},
    }


def in_docs() -> dict[str, float]:
    """The table: `| what | 15 s | `name`, `name` |`."""
    section = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Time-outs\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| ([\d.]+)(?: s)? \| (`[^|]+`) \|$", section, re.MULTILINE)
    return {name: float(value) for value, names in rows for name in re.findall(r"`([^`]+)`", names)}


def test_table_says_what_code_and_template_say() -> None:
    said = {name: {value} for name, value in in_code().items()} | in_template()
    assert {name: {value} for name, value in in_docs().items()} == said


def test_publishing_at_its_slowest_fits_into_its_reserve() -> None:
    code = in_code()
    assert code["CONNECT_TIMEOUT"] < code["PUBLISH_ATTEMPT_TIMEOUT"]
    assert code["CONNECT_TIMEOUT"] < code["ENRICH_TIMEOUT_MS"]
    attempts = code["PUBLISH_ATTEMPTS"]
    slowest = attempts * code["PUBLISH_ATTEMPT_TIMEOUT"] + (attempts - 1) * code["LONGEST_BACKOFF"]
    assert slowest <= code["PUBLISH_RESERVE"] - code["REPORT_RESERVE"]


@pytest.mark.parametrize("setting", ["Default", "MaxValue"])
def test_look_ups_and_publishing_fit_into_the_time_out(setting: str) -> None:
    look_ups = TEMPLATE["Parameters"]["EnrichTimeoutMs"][setting] / 1000
    assert look_ups + in_code()["PUBLISH_RESERVE"] <= FUNCTION["Timeout"]


def test_matrix_runs_with_the_numbers_of_the_template() -> None:
    assert template_timeout() == FUNCTION["Timeout"]
    assert REPEATS == FUNCTION["EventInvokeConfig"]["MaximumRetryAttempts"]
