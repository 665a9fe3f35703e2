"""The page about scanners and the lists that mute them say the same; `make audit` and `make lint` show that it is right."""

import re

from local import audit

from deployed import ROOT, Stack, source

DOCUMENT = audit.DOCUMENT.read_text()
# Heading -> what stands under it.
PARTS = dict(part.split("\n", 1) for part in DOCUMENT.split("\n## ")[1:])


def listed(part):
    """The first cell of each row of a part's table."""
    rows = [line.strip("|").split("|") for line in PARTS[part].splitlines() if line.startswith("| ")]
    return [row[0].strip().strip("`") for row in rows[1:]]


def test_the_page_has_what_the_lists_mute_and_no_more():
    for tool in ("Prowler", "cloud-audit"):
        assert sorted(listed(tool)) == sorted(audit.muted(tool))


def test_the_page_has_checkovs_exceptions_and_no_more():
    files = [ROOT / "template.yaml", *(ROOT / "stackset").glob("*.yaml")]
    assert sorted(listed("checkov")) == sorted(set(re.findall(r"id: (CKV_AWS_\d+)", "".join(f.read_text() for f in files))))


def muted_by_prowler(check, name):
    checks = audit.yaml_parse(audit.MUTED["Prowler"].read_text())["Mutelist"]["Accounts"]["*"]["Checks"]
    return any(re.search(pattern, name) for pattern in checks[check]["Resources"])


def test_prowlers_list_mutes_the_guards_resources_and_nobody_elses():
    hub = Stack({"OrganizationId": "o-a1b2c3d4e5"})
    for check, names in {
        "sns_topics_kms_encryption_at_rest_enabled": ["AlertsTopic", "FindingsTopic"],
        "awslambda_function_inside_vpc": ["AlertFunction", "WatchFunction"],
        "cloudwatch_log_group_kms_encryption_enabled": ["AlertLogGroup", "WatchLogGroup", "HubHeartbeatLogGroup"],
        "iam_role_cross_service_confused_deputy_prevention": ["AlertFunctionRole", "WatchFunctionRole"],
    }.items():
        for name in names:
            assert muted_by_prowler(check, hub.physical(name)), (check, name)
            assert not muted_by_prowler(check, hub.physical(name).replace("kms-key-guard", "payments")), (check, name)
    spoke = source("stackset/spoke.yaml")["Resources"]
    assert muted_by_prowler("cloudwatch_alarm_actions_alarm_state_configured", spoke["UndeliveredAlarm"]["Properties"]["AlarmName"])
    assert not muted_by_prowler("cloudwatch_alarm_actions_alarm_state_configured", hub.physical("AlertErrorAlarm"))
