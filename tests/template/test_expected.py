"""What doctor compares a deployed guard with is what the templates deploy."""

import json

from expected import COMPARED, FILE, rendered

from deployed import OPTED_IN, Stack


def test_expected_parts_are_the_templates():
    assert FILE.read_text() == rendered(), "python tests/template/expected.py writes it anew"


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
