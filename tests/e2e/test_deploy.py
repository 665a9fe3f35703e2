"""`make deploy` to a further Region: the saved answers, and nothing is asked."""

import argparse
import os
from pathlib import Path

import pytest

from local import deploy
from local.aws import ACCOUNT, STACK, LocalAws
from local.build import ARCHITECTURE, BUILD, LOGS, environment
from local.steps import Failed

SAVED = f'''version = 0.1
[default.deploy.parameters]
stack_name = "{STACK}"
region = "eu-west-1"
capabilities = "CAPABILITY_IAM"
resolve_s3 = true
confirm_changeset = true
parameter_overrides = "AlertEmail=\\"alice@example.com\\" Architecture=\\"{ARCHITECTURE}\\" ReminderDays=\\"5,2\\""
'''


@pytest.fixture
def saved(built: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The answers of the first deployment, and what sam build left."""
    path = tmp_path / "samconfig.local.toml"
    path.write_text(SAVED)
    monkeypatch.setattr(deploy, "SAVED", path)
    monkeypatch.setattr(deploy, "BUILT", BUILD)
    return path


def options(**given: str) -> argparse.Namespace:
    return argparse.Namespace(**{"region": None, "profile": None, "guided": False, "use": None, "architecture": None, **given})


def test_a_further_region_gets_the_recipient_and_the_processor_of_the_first(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalAws(log=LOGS / "aws-deploy.log") as aws:
        for region in ("us-east-1", "eu-central-1"):
            for name, value in environment(**aws.environment(region=region)).items():
                monkeypatch.setenv(name, value)
            assert deploy._deploy(options(region=region)) == 0
            stack = aws.client("cloudformation", ACCOUNT, region).describe_stacks(StackName=STACK)["Stacks"][0]
            parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
            assert {"AlertEmail": "alice@example.com", "Architecture": ARCHITECTURE, "ReminderDays": "5,2"}.items() <= parameters.items()
            assert f"--stack-name {STACK} --region {region}" in capfd.readouterr().out
    assert saved.read_text() == SAVED


def test_code_for_another_processor_is_refused_before_anything_is_deployed(saved: Path) -> None:
    other = next(name for name in ("arm64", "x86_64") if name != ARCHITECTURE)
    with pytest.raises(Failed, match=f"ARCHITECTURE says {other}, and .* is built for {ARCHITECTURE}"):
        deploy._deploy(options(architecture=other))
