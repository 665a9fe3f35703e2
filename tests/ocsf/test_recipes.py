"""The functions of docs/integrations take every finding that the Rust tests render, and what they send is what its reader takes.

Security Hub and EventBridge are stood in for by botocore, which checks a request by AWS's own model of the service.
"""

import contextlib
import json
import re
from pathlib import Path
from unittest.mock import patch

import boto3
import pytest
from botocore.stub import ANY, Stubber
from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs/integrations"
DOCUMENTS = ROOT / "target/tmp/ocsf"
ACCOUNT = "111122223333"
PRODUCT = f"arn:aws:securityhub:eu-west-1:{ACCOUNT}:product/{ACCOUNT}/default"


def function(recipe, service):
    """The recipe's code as Lambda runs it, and the client it calls."""
    code = yaml_parse((RECIPES / recipe).read_text())["Resources"]["Function"]["Properties"]["Code"]["ZipFile"]
    client = boto3.client(service, region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none")
    module = {}
    with patch.object(boto3, "client", return_value=client):
        exec(compile(code, recipe, "exec"), module)  # the module's own name for it
    return module, client


def of_sns(document):
    return {"Records": [{"Sns": {"Message": json.dumps(document)}}]}


@pytest.fixture(scope="module")
def documents():
    files = [DOCUMENTS / name for name in ("documents.jsonl", "sweep.jsonl")]
    assert all(file.exists() for file in files), "run `cargo test --all-features` first: it writes the documents"
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@contextlib.contextmanager
def answering(client, operation, answer, expected=None):
    with Stubber(client) as stub:
        stub.add_response(operation, answer, expected)
        yield
        stub.assert_no_pending_responses()


def test_security_hub_takes_every_finding(documents, monkeypatch):
    module, client = function("security-hub.yaml", "securityhub")
    monkeypatch.setenv("PRODUCT", PRODUCT)
    monkeypatch.setenv("ACCOUNT", ACCOUNT)
    taken = {"FailedCount": 0, "SuccessCount": 1}
    for document in documents:
        with answering(client, "batch_import_findings", taken):
            module["handler"](of_sns(document), None)
        finding = module["asff"](document, PRODUCT, ACCOUNT)
        # What the model doesn't say: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html
        assert len(finding["Title"]) <= 256 and len(finding["Description"]) <= 1024
        assert len(finding["Remediation"]["Recommendation"]["Text"]) <= 512 and len(finding["Id"]) <= 512
        assert finding["Severity"]["Label"] in ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
        for time in (finding["CreatedAt"], finding["UpdatedAt"]):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
        assert finding["Resources"][0]["Type"] == ("AwsKmsKey" if ":key/" in finding["Resources"][0]["Id"] else "Other")
        assert len(json.dumps(finding)) < 240_000


def test_all_clear_archives_the_finding_that_the_danger_made(documents):
    asff = function("security-hub.yaml", "securityhub")[0]["asff"]
    states = {}
    for document in documents:
        finding = asff(document, PRODUCT, ACCOUNT)
        assert finding["Id"] == document["finding_info"]["uid"]
        states.setdefault(document["activity_name"], set()).add(finding["RecordState"])
    assert states == {"Create": {"ACTIVE"}, "Update": {"ACTIVE"}, "Close": {"ARCHIVED"}}


def test_what_security_hub_or_the_bus_refuses_fails_the_function(documents, monkeypatch):
    monkeypatch.setenv("PRODUCT", PRODUCT)
    monkeypatch.setenv("ACCOUNT", ACCOUNT)
    monkeypatch.setenv("BUS", "kms-key-guard-findings")
    refused = {
        "FailedCount": 1, "SuccessCount": 0,
        "FailedFindings": [{"Id": "x", "ErrorCode": "InvalidInput", "ErrorMessage": "no"}],
    }
    module, client = function("security-hub.yaml", "securityhub")
    with answering(client, "batch_import_findings", refused), pytest.raises(RuntimeError, match="InvalidInput"):
        module["handler"](of_sns(documents[0]), None)
    module, client = function("event-bus.yaml", "events")
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}]}
    with answering(client, "put_events", refused), pytest.raises(RuntimeError, match="ThrottlingException"):
        module["handler"](of_sns(documents[0]), None)


def test_bus_takes_every_finding_whole(documents, monkeypatch):
    module, client = function("event-bus.yaml", "events")
    monkeypatch.setenv("BUS", "kms-key-guard-findings")
    for document in documents:
        expected = {"Entries": [{
            "EventBusName": "kms-key-guard-findings", "Source": "kms-key-guard", "Resources": ANY,
            "DetailType": document["finding_info"]["analytic"]["uid"], "Detail": json.dumps(document),
        }]}
        with answering(client, "put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}, expected):
            module["handler"](of_sns(document), None)


def test_pagerduty_gets_one_alert_a_story_and_the_all_clear_resolves_it(documents):
    """https://developer.pagerduty.com/docs/events-api-v2-overview"""
    alert = function("pagerduty.yaml", "secretsmanager")[0]["alert"]
    for document in documents:
        event = alert(document, "key")
        assert event["routing_key"] == "key"
        assert event["event_action"] == ("resolve" if document["activity_name"] == "Close" else "trigger")
        assert event["dedup_key"] == document["finding_info"]["uid"] and len(event["dedup_key"]) <= 255
        payload = event["payload"]
        assert payload["severity"] in ("critical", "error", "warning", "info") and payload["source"]
        assert 0 < len(payload["summary"]) <= 1024
        assert len(json.dumps(event)) < 512_000
    long = documents[0] | {"finding_info": documents[0]["finding_info"] | {"uid": "x" * 300}}
    assert len(alert(long, "key")["dedup_key"]) == 64
