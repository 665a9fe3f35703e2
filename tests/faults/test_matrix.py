"""Whatever SNS and KMS do, the alert is at every topic, or the event waits in the on-failure queue."""

import json

from local.rig.faults import EVENT, FACTS, UID, Cell, Result, template_timeout
from local.rig import REPEATS, Fault

from .conftest import each_cell
from .test_deadlines import in_docs

SLACK = 1.5
"""Seconds that a busy machine may add."""


@each_cell
def test_no_alert_is_lost(cell: Cell, result: Result) -> None:
    assert result.arrived or result.queued, result
    if result.delivery.succeeded:
        assert result.arrived, f"it says it published, and the topics hold {[m.topic for m in result.messages]}"
        assert result.queue == []
    else:
        assert result.queue == [EVENT]
        assert len(result.delivery.attempts) == 1 + REPEATS


@each_cell
def test_failure_is_reported_with_its_cause_and_not_killed_by_the_time_out(cell: Cell, result: Result) -> None:
    *failed, last = result.delivery.attempts
    assert [attempt.ended for attempt in failed] == ["reported"] * len(failed), "only what failed is repeated"
    assert last.ended in ("answered", "reported"), f"{last.ended} after {last.seconds:.1f} s"
    for attempt in result.delivery.attempts:
        assert attempt.seconds < (cell.timeout or template_timeout())
    for error in (attempt.said for attempt in result.delivery.attempts if attempt.ended == "reported"):
        named = {topic for topic in cell.topics if f"the {topic} topic didn't take the alert" in error["errorMessage"]}
        if error["errorType"] == "OutOfTime":
            assert cell.timeout, "the template's time-out is enough for every attempt"
        else:
            assert error["errorType"] == "PublishFailed"
            assert named and (named <= set(cell.sns) or "*" in cell.sns)


@each_cell
def test_outcome_is_the_foreseen_one(cell: Cell, result: Result) -> None:
    if not cell.foreseen:
        return  # drawn by lot
    published = [a.said["outcome"] == "published" for a in result.delivery.attempts if a.ended == "answered"]
    assert published in ([], [True])
    assert (len(result.delivery.attempts) if published else None) == cell.arrives_on, result


@each_cell
def test_alert_names_the_facts_it_lacks_and_no_others(cell: Cell, result: Result) -> None:
    if not result.messages:
        assert result.queued
        return
    if cell.foreseen:
        assert result.unknown.keys() == cell.lacks.keys()
        for fact, reason in cell.lacks.items():
            assert reason in result.unknown[fact]
    text = next(message.body for message in result.messages if message.topic == "alerts")
    for fact, line in {
        "aliases": "Aliases",
        "state": "State",
        "tags": "Tags",
        "last use": "Last used",
        "grants": "Grants",
    }.items():
        assert (f"\n  {line}: " in text) != (fact in result.unknown), f"{fact} is told and not told, or neither"
    assert set(result.unknown) <= set(FACTS.values())


@each_cell
def test_look_ups_delay_an_alert_no_longer_than_their_budget(cell: Cell, result: Result) -> None:
    code = in_docs()
    asked_for = float(cell.environment.get("ENRICH_TIMEOUT_MS", 1000 * code["ENRICH_TIMEOUT_MS"])) / 1000
    budget = min(asked_for, template_timeout() - code["PUBLISH_RESERVE"])
    if not result.messages:
        assert not any(result.tries[topic] for topic in cell.topics), "SNS was asked, and the message isn't there"
        return
    assert result.messages[0].at - result.delivery.attempts[0].began < budget + SLACK


@each_cell
def test_every_copy_of_the_alert_is_whole_and_has_the_same_uid(cell: Cell, result: Result) -> None:
    assert len(result.messages) == sum(result.tries[topic] for topic in cell.topics), "each try carries the alert"
    for message in result.messages:
        assert message.uid == UID
        assert message.attributes["detection"] == "key-disabled"
        if message.topic == "findings":
            assert json.loads(message.body)["class_uid"] == 2004
        elif message.topic == "chat":
            assert json.loads(message.body)["source"] == "custom"
        else:
            assert message.subject.startswith("[") and len(message.subject) < 100
    said = {attempt.said["uid"] for attempt in result.delivery.attempts if attempt.ended == "answered"}
    assert said == ({UID} if result.delivery.succeeded else set())


@each_cell
def test_each_invocation_goes_to_every_topic(cell: Cell, result: Result) -> None:
    nobody = cell.sns.get("*", ("",))[0] in (Fault.REFUSES, Fault.UNREACHABLE)
    for topic in cell.topics:
        copies = result.tries[topic]
        assert copies == 0 if nobody else copies >= len(result.delivery.attempts)
