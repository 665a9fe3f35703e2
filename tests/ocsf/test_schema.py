"""Every OCSF document that the Rust tests render is valid, by the published schema and by py-ocsf-models.

`cargo test --test alerts` writes the documents: every sample event, with the facts about the key known, unknown, and in
all combinations. `cargo test --features watch --test sweep` adds those of the sweep.
"""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

DOCUMENTS = Path(__file__).parents[2] / "target/tmp/ocsf"


@pytest.fixture(scope="module")
def documents() -> list[dict]:
    files = [DOCUMENTS / name for name in ("documents.jsonl", "sweep.jsonl")]
    assert all(file.exists() for file in files), "run `cargo test --all-features` first: it writes the documents"
    documents = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(documents) > 300
    return documents


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    embedded = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.5.0"))
    return Draft202012Validator(embedded.get_class_schema(class_name="detection_finding", profiles=["cloud"]))


def problems(schema: Draft202012Validator, document: dict) -> list[str]:
    return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in schema.iter_errors(document)]


def test_published_schema_accepts_every_document(documents, schema):
    wrong = {problem for document in documents for problem in problems(schema, document)}
    assert not wrong, "\n".join(sorted(wrong))


def test_published_schema_refuses_what_is_wrong(documents, schema):
    assert problems(schema, {**documents[0], "severity_id": "high"})
    assert problems(schema, {**documents[0], "of_our_own": 1})


def test_py_ocsf_models_accepts_every_document(documents):
    for document in documents:
        DetectionFinding.model_validate(document)


def test_no_document_holds_nulls_or_empty_values(documents):
    def check(value, path):
        assert value not in (None, "", [], {}), path
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
            if path + [name] != ["evidences", 0, "data"]:
                check(inner, path + [name])

    for document in documents:
        check(document, [])
