"""The rules' patterns let through what the catalogue reports, and hold back what it never reports.

events/verdicts.tsv says for every sample event what the catalogue reports (columns `default` and `optin`) and what is
expected of the rules that are always there (`rule`) and of all rules with both opt-ins (`optin_rule`): `yes`, `no`, or
`candidate` where a rule may pass what only the code can judge. Two rule engines that aren't ours decide what matches:
the local AWS's TestEventPattern, and event-ruler for the patterns and events that it can read.
"""

import asyncio
import csv
import json

import pytest
from event_ruler import event_ruler
from ministack.services import eventbridge

from deployed import OPTED_IN, ROOT, Stack

EVENTS = ROOT / "events"

# The rule can't tell these from a loss; the function reads the policy, or the request, and stays silent.
CODE_DECIDES = {
    # PutKeyPolicy whose new policy leaves the account in charge of the key.
    "policy-account-among-others.json",
    "policy-account-as-bare-id.json",
    "policy-account-under-a-condition-it-meets.json",
    "policy-account-with-admin-actions.json",
    "policy-anyone-aws.json",
    "policy-anyone-of-the-account.json",
    "policy-anyone.json",
    "policy-check-not-mentioned.json",
    "policy-default-in-china.json",
    "policy-default.json",
    "policy-deletion-guarded.json",
    "policy-denial-elsewhere-in-the-network.json",
    "policy-denial-of-loss-by-window.json",
    "policy-denial-of-skipped-check.json",
    "policy-denial-to-other-accounts.json",
    "policy-denial-to-others-than-the-account.json",
    "policy-denial-without-second-factor.json",
    "policy-denial-without-tls.json",
    "policy-single-statement.json",
    "policy-somebody-else-denied.json",
    # ImportKeyMaterial of new material that doesn't expire.
    "material-imported-new.json",
}
CODE_DECIDES_WITH_OPT_INS = CODE_DECIDES | {
    # Refused calls that wouldn't have lost a key.
    "denied-material-restored.json",
    "denied-policy-harmless.json",
}
# No rule can match these, and whoever invokes the function with them still gets an alert.
DIRECT_INVOCATION_ONLY = {
    "detail-array-empty.json",
    "detail-missing.json",
    "detail-null.json",
    "detail-text.json",
    "event-name-missing.json",
    "event-name-null.json",
    "event-name-number.json",
    "event-source-missing.json",
    "service-event-name-missing.json",
    "source-missing.json",
}


def verdicts():
    with open(EVENTS / "verdicts.tsv", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


VERDICTS = verdicts()
SAMPLES = [row for row in VERDICTS if row["rule"] != "n/a"]
DEFAULT = Stack().patterns()
WITH_OPT_INS = Stack(OPTED_IN).patterns()


def sample(row):
    return json.loads((EVENTS / row["file"]).read_text())


def local_aws_matches(pattern, event):
    body = json.dumps({"Event": json.dumps(event), "EventPattern": pattern}).encode()
    headers = {"x-amz-target": "AWSEvents.TestEventPattern"}
    status, _, answer = asyncio.run(eventbridge.handle_request("POST", "/", headers, body, {}))
    assert status == 200, answer
    return json.loads(answer)["Result"]


def matching(patterns, event):
    return [name for name, pattern in patterns.items() if local_aws_matches(pattern, event)]


CASES = pytest.mark.parametrize(
    ("patterns", "finding", "rule"),
    [(DEFAULT, "default", "rule"), (WITH_OPT_INS, "optin", "optin_rule")],
    ids=["default", "with opt-ins"],
)
EACH_SAMPLE = pytest.mark.parametrize("row", SAMPLES, ids=lambda row: row["file"])


@CASES
@EACH_SAMPLE
def test_rules_agree_with_the_verdicts(patterns, finding, rule, row):
    allowed = {"yes": [1], "no": [0], "candidate": [0, 1]}[row[rule]]
    # One at most: two rules for one event would be two alerts.
    assert len(matching(patterns, sample(row))) in allowed, row["why"]


@CASES
def test_what_rules_pass_and_the_catalogue_does_not_report_is_named_here(patterns, finding, rule):
    silent = {row["file"] for row in SAMPLES if row[finding] == "-" and matching(patterns, sample(row))}
    assert silent == (CODE_DECIDES if patterns is DEFAULT else CODE_DECIDES_WITH_OPT_INS)


@CASES
def test_what_the_catalogue_reports_and_rules_hold_back_is_named_here(patterns, finding, rule):
    held_back = {row["file"] for row in SAMPLES if row[finding] != "-" and not matching(patterns, sample(row))}
    assert held_back == DIRECT_INVOCATION_ONLY


def test_every_rule_has_samples_that_it_passes():
    passed = {name for row in SAMPLES for name in matching(WITH_OPT_INS, sample(row))}
    assert passed == set(WITH_OPT_INS)


def test_opt_in_rules_exist_only_when_chosen():
    assert set(DEFAULT) == {"ApiCallRule", "ServiceEventRule", "KmsEventRule"}
    assert set(Stack({"ReportDeniedAttempts": "true"}).patterns()) - set(DEFAULT) == {"DeniedAttemptRule"}
    assert set(Stack({"ReportLostKeyUse": "true"}).patterns()) - set(DEFAULT) == {"LostKeyUseRule"}


def without_null(node):
    """event-ruler doesn't take null as an alternative; a pattern without it means the same to events without null."""
    if isinstance(node, dict):
        return {key: without_null(value) for key, value in node.items()}
    if isinstance(node, list):
        kept = [value for value in node if value is not None]
        assert kept, "null alone can't be left out, and event-ruler ends the whole process over an empty list"
        return kept
    return node


def event_ruler_reads(event):
    """It wants whole events, and takes no pattern with null, without which a null field can't match."""
    detail = event.get("detail")
    return isinstance(detail, dict) and event.get("source") and not (
        {"errorCode", "errorMessage"} & {field for field, value in detail.items() if value is None}
    )


@pytest.mark.parametrize("row", [row for row in SAMPLES if event_ruler_reads(sample(row))], ids=lambda row: row["file"])
def test_second_engine_agrees_on_the_default_rules(row):
    event = sample(row)
    passed = [
        name
        for name, pattern in DEFAULT.items()
        if event_ruler.test_event_pattern(json.dumps(event), json.dumps(without_null(json.loads(pattern))))
    ]
    assert passed == matching(DEFAULT, event)


def test_read_only_calls_are_delivered_to_the_rule_about_them_alone():
    states = {name: rule["State"] for name, rule in Stack(OPTED_IN).of_type("AWS::Events::Rule").items()}
    assert states.pop("LostKeyUseRule") == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
    assert set(states.values()) == {"ENABLED"}


def test_rules_listen_on_the_default_bus_where_aws_delivers():
    for rule in Stack(OPTED_IN).of_type("AWS::Events::Rule").values():
        assert rule.get("EventBusName", "default") == "default"
