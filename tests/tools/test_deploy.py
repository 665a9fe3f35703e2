"""`make deploy`: what it asks, what it reuses, and that code never goes to another processor."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from local import deploy
from local.steps import Failed

SAVED = r'''version = 0.1
[default.global.parameters]
stack_name = "kms-key-guard"
[default.deploy.parameters]
region = "eu-west-1"
parameter_overrides = "AlertEmail=\"a@example.com\" Architecture=\"arm64\" ReminderDays=\"7, 3\" MinimumSeverity=\"\""
'''


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"region": None, "profile": None, "guided": False, "use": None, "architecture": None, **given})


def saved(tmp_path: Path, text: str = SAVED) -> dict[str, Any]:
    path = tmp_path / "samconfig.local.toml"
    path.write_text(text)
    return deploy.settings(path)


def test_saved_answers_are_read_as_sam_writes_them(tmp_path: Path) -> None:
    found = saved(tmp_path)
    assert (found["stack_name"], found["region"]) == ("kms-key-guard", "eu-west-1")
    assert found["parameters"] == {"AlertEmail": "a@example.com", "Architecture": "arm64", "ReminderDays": "7, 3", "MinimumSeverity": ""}
    listed = saved(tmp_path, '[default.deploy.parameters]\nparameter_overrides = ["AlertEmail=a@example.com", "SweepHour=7"]\n')
    assert listed["parameters"] == {"AlertEmail": "a@example.com", "SweepHour": "7"}


@pytest.mark.parametrize("text", ["[default", '[default.deploy.parameters]\nparameter_overrides = "AlertEmail"\n'])
def test_saved_answers_that_make_no_sense_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(Failed, match=r"samconfig\.local\.toml"):
        saved(tmp_path, text)


def test_a_further_region_gets_the_saved_answers_and_nothing_is_asked(tmp_path: Path) -> None:
    command = deploy.sam(saved(tmp_path), Path("t.yaml"), "arm64", options(region="us-east-1", profile="audit"))
    assert "--guided" not in command and "--no-confirm-changeset" in command
    assert command[command.index("--region") + 1] == "us-east-1" and command[command.index("--profile") + 1] == "audit"
    assert {'AlertEmail="a@example.com"', 'ReminderDays="7, 3"', 'Architecture="arm64"', 'MinimumSeverity=""'} <= set(command)


def test_it_asks_the_first_time_and_on_demand(tmp_path: Path) -> None:
    first = deploy.sam(saved(tmp_path, ""), Path("t.yaml"), "x86_64", options())
    assert "--guided" in first and 'Architecture="x86_64"' in first
    again = deploy.sam(saved(tmp_path), Path("t.yaml"), "arm64", options(guided=True))
    assert "--guided" in again and 'AlertEmail="a@example.com"' in again


@pytest.mark.parametrize(
    ("built", "asked", "remembered", "named"),
    [("x86_64", None, "arm64", "samconfig.local.toml says arm64"), ("x86_64", "arm64", "x86_64", "ARCHITECTURE says arm64")],
)
def test_code_for_another_processor_is_refused(built: str, asked: str | None, remembered: str, named: str) -> None:
    with pytest.raises(Failed, match=f"{named}, and .aws-sam is built for {built}"):
        deploy.same_architecture(built, ".aws-sam", asked, remembered)


@pytest.mark.parametrize(("asked", "remembered"), [(None, None), (None, "arm64"), ("arm64", "x86_64"), ("arm64", None)])
def test_code_for_the_processor_that_was_asked_for_is_not(asked: str | None, remembered: str | None) -> None:
    deploy.same_architecture("arm64", ".aws-sam", asked, remembered)
