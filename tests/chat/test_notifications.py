"""Every notification for chat channels that the Rust tests render is one by AWS's schema, and reads as it was meant.

`cargo test --test it` writes them: those of every sample event, with the facts about the key known, unknown, and in all
combinations, and those of events whose caller wrote markup. Teams reads CommonMark, which a parser of it judges; Slack's rules
are few enough to stand here: https://docs.slack.dev/messaging/formatting-message-text
"""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt

DOCUMENTS = Path(__file__).parents[2] / "target/tmp/chat"
SCHEMA = Draft202012Validator(json.loads(Path(__file__).with_name("notification.schema.json").read_text()))


def rendered(name: str) -> list[dict]:
    file = DOCUMENTS / name
    assert file.exists(), "run `cargo test --all-features --test it` first: it writes the notifications"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def every() -> list[dict]:
    every = rendered("documents.jsonl") + rendered("hostile.jsonl")
    assert len(every) > 300
    return every


def texts(document: dict) -> set[str]:
    content = document["content"]
    return {content["title"], content["description"], *content.get("nextSteps", []), *content.get("keywords", [])}


def test_schema_accepts_every_notification(every):
    wrong = {f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for one in every for error in SCHEMA.iter_errors(one)}
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize(
    "change",
    [{"version": "1"}, {"source": "aws.kms"}, {"content": {"title": "no description"}}, {"subject": "of our own"}],
    ids=str,
)
def test_schema_refuses_what_amazon_q_would_drop(every, change):
    assert not SCHEMA.is_valid({**every[0], **change})


COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def marks(text: str) -> set[str]:
    """What a reader of CommonMark makes of it beside paragraphs, lists and code."""
    plain = {"paragraph_open", "paragraph_close", "bullet_list_open", "bullet_list_close", "list_item_open",
             "list_item_close", "inline", "text", "softbreak", "code_inline"}
    tokens = COMMONMARK.parse(text)
    return {token.type for outer in tokens for token in [outer, *(outer.children or [])]} - plain


def test_teams_reads_text_lists_and_code_and_nothing_else(every):
    wrong = {(kind, text) for one in every for text in texts(one) for kind in marks(text)}
    assert not wrong, sorted(wrong)[:5]


@pytest.mark.parametrize("text", ["[a](b)", "_a_", "**a**", "<b>a</b>", "![a](b)", "# a", "> a", "| a |\n|---|\n| b |"])
def test_that_parser_would_have_seen_it(text):
    assert marks(text)


def test_every_line_of_the_description_is_shown(every):
    """A link's definition, for one, would be read and not shown."""
    for one in every:
        description = one["content"]["description"]
        shown = "".join(t.content for outer in COMMONMARK.parse(description) for t in outer.children or [])
        for word in re.findall(r"\w+", description):
            assert word in shown, (word, description)


def test_slack_sees_no_mention_link_or_emphasis(every):
    for text in {text for one in every for text in texts(one)}:
        assert not set("<>&@") & set(text), text
        outside = " ".join(text.split("`")[::2])
        assert not re.search(r"[*~]|(?<!\w)_|_(?!\w)|:[a-z0-9_+'-]*[a-z][a-z0-9_+'-]*:", outside, re.IGNORECASE), text


def test_only_the_guards_own_links_are_links(every):
    for text in {text for one in every for text in texts(one)}:
        addresses = re.findall(r"(\w+)://([^/\s]+)", text)
        assert all(scheme == "https" and host.endswith((".amazon.com", ".amazonaws.cn", ".amazonaws-us-gov.com"))
                   or scheme == "fileb" for scheme, host in addresses), text
        assert "evil.example" not in " ".join(text.split("`")[::2]), text
