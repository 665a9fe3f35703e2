"""What doctor compares a deployed guard with is what the templates deploy."""

import json
import re

from expected import COMPARED, FILE, OWN, neutral, own, rendered, settings

from deployed import OPTED_IN, ROOT, Stack


def test_expected_parts_are_the_templates():
    assert FILE.read_text() == rendered(), "python tests/template/expected.py writes it anew"


def test_what_the_alert_function_knows_of_its_parts_is_the_templates():
    assert OWN.read_text() == own(), "python tests/template/expected.py writes it anew"


def test_only_what_a_parameter_decides_is_unknown_to_the_alert_function():
    known = {line.split(" ")[0] for line in OWN.read_text().splitlines()}
    everything = OPTED_IN | {"OrganizationId": "o-a1b2c3d4e5", "CloudTrailLogGroupName": "trail"}
    assert set(settings(everything)) - known == {"alarm.MassEventAlarm"}


def test_every_name_that_cloudformation_makes_up_is_known_by_its_form():
    text = (ROOT / "src/own.rs").read_text().split("const MADE")[-1].split("];")[0]
    made = set(re.findall(r'"(\w+)"', text)) | {"AlertFunction"}
    everything = OPTED_IN | {"OrganizationId": "o-a1b2c3d4e5", "CloudTrailLogGroupName": "trail"}
    found = settings(everything)
    named = {name for value in found.values() for name in re.findall(r"\$\{stack\}-([A-Z]\w+)", neutral(value))}
    queues = {name.partition(".")[0] for name in found if name.endswith(".SqsManagedSseEnabled")}
    assert named | queues == made


def test_no_rule_schedule_or_alarm_has_a_property_that_is_not_compared():
    described = {"AlarmDescription", "Description", "EventBusName", "Name"}
    for stack in (Stack(OPTED_IN | {"OrganizationId": "o-a1b2c3d4e5"}), spoke()):
        for kind in set(COMPARED) - {"AWS::Lambda::Function"}:
            for name, properties in stack.of_type(kind).items():
                assert set(properties) <= {*COMPARED[kind], *described, "AlarmName"}, name


def test_every_resource_is_among_the_expected_parts():
    expected = json.loads(FILE.read_text())
    hub = Stack(OPTED_IN | {"OrganizationId": "o-a1b2c3d4e5", "CloudTrailLogGroupName": "trail", "CreateDashboard": "true"})
    for stack, parts in ((hub, expected["Guard"]), (spoke(), expected["Spoke"])):
        assert stack.resources.keys() <= parts["Resources"].keys()
        assert len(stack.resources) > 10


def spoke():
    hub = {"HubAccountId": "123456789012", "HubRegion": "eu-central-1", "HubRoleName": "r", "OrganizationId": "o-a1b2c3d4e5"}
    on = {"HomeRegion": "eu-central-1", "ReportDeniedAttempts": "true", "ReportLostKeyUse": "true"}
    return Stack(hub | on, file="stackset/spoke.yaml", name="kms-key-guard-spoke")
