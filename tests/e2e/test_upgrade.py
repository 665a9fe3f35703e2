"""A stack of an earlier version's template is updated to today's, and alerts before and after.

The functions are today's in both: what is tested is the step from one template to the other.
"""

from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_dump, yaml_parse

from local import aws as local
from local.aws import LocalAws
from local.build import BUILD, LOGS, ROOT

from .conftest import Guarded

VERSIONS = ROOT / "tests" / "upgrade"


def as_built(template: Path, folder: Path) -> None:
    """What `sam build` would write into the folder: the template with the functions that are built already."""
    document = yaml_parse(template.read_text())
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = str(BUILD / name)
    (folder / "template.yaml").write_text(yaml_dump(document))


def rules(aws: LocalAws) -> dict[str, dict[str, Any]]:
    """Every rule on the default bus, with its targets."""
    events = aws.client("events")
    named = {rule["Name"]: rule for rule in events.list_rules()["Rules"]}
    return {name: rule | {"Targets": events.list_targets_by_rule(Rule=name)["Targets"]} for name, rule in named.items()}


def disabling_is_reported(guarded: Guarded) -> None:
    key = guarded.key()
    key.kms.disable_key(KeyId=key.arn)
    assert key.alerts.next().attributes["event_name"] == "DisableKey"
    assert key.findings.next().attributes["key_arn"] == key.arn


@pytest.mark.parametrize("version", sorted(template.parent.name for template in VERSIONS.glob("*/template.yaml")))
def test_a_stack_of_an_earlier_version_is_updated_and_goes_on_alerting(
    built: None, version: str, tmp_path: Path
) -> None:
    as_built(VERSIONS / version / "template.yaml", tmp_path)
    with LocalAws(retry_delay=0.1, log=LOGS / "aws-upgrade.log") as aws:
        aws.start_trail()
        before = local.deploy(aws, built=tmp_path)
        replaced = rules(aws)
        disabling_is_reported(Guarded(aws, before))

        after = local.deploy(aws)
        assert aws.client("cloudformation").describe_stacks(StackName=local.STACK)["Stacks"][0]["StackStatus"] == "UPDATE_COMPLETE"
        # Topics, queues and functions stay, so whoever subscribed to them, or was given their names, still is.
        assert before.items() <= after.items()

        now = rules(aws)
        assert now.keys().isdisjoint(replaced)
        assert all(name.startswith(f"{local.STACK}-rule.") for name in now)
        for rule in now.values():
            assert rule["State"] == "ENABLED"
            targets = {target["Id"]: target for target in rule["Targets"]}
            self_check = targets.pop("self-check", None)
            if rule["Name"].endswith("-rule.stack-status"):
                assert self_check and not targets
                continue
            assert targets.keys() == {"alert-function"}
            target = targets["alert-function"]
            assert target["Arn"].endswith(f":function:{after['AlertFunctionName']}")
            assert "DeadLetterConfig" in target
        guarded = Guarded(aws, after)
        disabling_is_reported(guarded)

        tampering = guarded.inbox("AlertsTopicArn", detection=["guard-tampered"], severity=["Critical"])
        mallory = aws.client("events", **aws.person("mallory", "platform-admin"))
        mallory.disable_rule(Name=f"{local.STACK}-rule.api-call")
        assert "rule disabled" in tampering.next(timeout=60).subject
