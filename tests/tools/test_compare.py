"""`make compare`, without an AWS: the rule is one that AWS takes, the tables are made and checked as they should be."""

import json
from pathlib import Path

import pytest
from ministack.services import eventbridge
from samcli.yamlhelper import yaml_parse

from local import compare
from local.aws import Message
from local.compare import FACTS, STORY, Call, Played, Stage

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "local" / "zero_code.yaml"
RULE = yaml_parse(TEMPLATE.read_text())["Resources"]["KeyLossRule"]["Properties"]
KEY = "880b7941-1a51-4ad8-ac97-e2ba4a860ef7"


def mail(subject: str, body: str, **attributes: str) -> Message:
    return Message(subject, body, attributes, 0.0)


def test_cfn_lint_has_nothing_to_say_of_the_rule() -> None:
    from cfnlint.api import lint_file

    assert [str(match) for match in lint_file(TEMPLATE)] == []


@pytest.mark.parametrize(
    ("sample", "matched"),
    [
        ("deletion-scheduled", True),
        ("key-disabled", True),
        # It goes by the name of the call alone.
        ("denied-deletion", True),
        ("material-deleted", False),
        ("deletion-cancelled", False),
    ],
)
def test_rule_matches_the_two_calls_by_name_whether_they_worked_or_not(sample: str, matched: bool) -> None:
    event = json.loads((ROOT / "events" / f"{sample}.json").read_text())
    found = eventbridge._matches_pattern_view(json.dumps(RULE["EventPattern"]), _view(event), "rule")
    assert found is matched


def _view(event: dict):
    return eventbridge._pattern_event_view(
        {
            "EventId": event["id"],
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "Account": event["account"],
            "Region": event["region"],
            "Time": event["time"],
            "Resources": event.get("resources", []),
        }
    )


def test_transformer_takes_what_the_record_has() -> None:
    (target,) = RULE["Targets"]
    transformer = target["InputTransformer"]
    record = json.loads((ROOT / "events" / "deletion-scheduled.json").read_text())["detail"]
    for name, path in transformer["InputPathsMap"].items():
        value = record
        for part in path.removeprefix("$.detail.").split("."):
            value = value[part]
        assert isinstance(value, str)
        assert f"<{name}>" in transformer["InputTemplate"]
    # EventBridge takes JSON: a sentence stands in quotes, which it delivers too.
    assert isinstance(json.loads(transformer["InputTemplate"]), str)


def test_row_says_what_came_of_a_call() -> None:
    sent = mail("", "…")
    alert = mail("[HIGH] x", "…", severity="High", detection="key-disabled")
    assert Played(Call("a key is disabled", print), [sent], [alert]).row() == ("a key is disabled", "a mail", "High: `key-disabled`")
    assert Played(Call("it is refused", print, refused=True), [sent]).row() == (
        "it is refused", "a mail, as if it had happened", "–"
    )  # fmt: skip
    assert Played(Call("it is cancelled", print), [], []).row()[1:] == ("–", "–")


def test_mails_are_asked_for_every_fact() -> None:
    stage = Stage(None, None, KEY, "", "", "2026-10-05")
    full = mail(
        f"[CRITICAL] KMS key payments-db ({KEY.split('-')[0]})",
        f"ScheduleKeyDeletion {KEY} alice alias/payments-db team-payments 2026-10-05 Last used (GenerateDataKey) "
        "aws kms cancel-key-deletion aws kms enable-key",
    )
    empty = mail("", "something happened")
    rows = compare.mail_table(stage, Played(STORY[0], [empty], [full]))[2:]
    assert len(rows) == len(FACTS)
    assert all(row.endswith(" | no | yes |") for row in rows), rows


def test_columns_are_as_wide_as_the_terminal_and_long_mails_are_cut() -> None:
    lines = compare.side_by_side("one\ntwo", "\n".join(f"word {'x' * 60} {n}" for n in range(40)), 80, most=10)
    assert len(lines) == 10 and max(map(len, lines)) <= 80
    assert lines[-1].endswith("more lines") and lines[0].startswith("  │ one ")


def test_table_that_is_not_what_was_found_is_named_and_written_on_demand(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    document = tmp_path / "README.md"
    marker = compare.marker("calls")
    document.write_text(f"before\n{marker}\n| old |\n{marker}\nafter\n")
    assert compare.documented("calls", ["| new |"], update=False) == ["The table in README.md isn't what was found."]
    assert compare.documented("calls", ["| new |"], update=True) == []
    assert document.read_text() == f"before\n{marker}\n| new |\n{marker}\nafter\n"
    assert compare.documented("calls", ["| new |"], update=False) == []
    document.write_text("no table")
    assert marker in compare.documented("calls", ["| new |"], update=False)[0]


def test_documents_have_a_row_for_every_call_and_every_fact() -> None:
    """What the rows say only `make compare` knows; that none is missing is seen without it."""
    for name, rows in (("calls", [call.says for call in STORY]), ("mail", [fact.what for fact in FACTS])):
        _, lines, _ = (ROOT / compare.DOCUMENTS[name]).read_text().split(compare.marker(name) + "\n")
        assert [line.split(" | ")[0].removeprefix("| ") for line in lines.splitlines()[2:]] == rows
