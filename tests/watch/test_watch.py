"""The watch function as it ships, as Lambda runs it, with a KMS of many keys, an SNS with faults, and its own log."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from local.rig import CHAT, Fault, Function, Sns
from local.rig.sweeping import DAY, QUOTAS, Account, Keys, arn, batch, stack_event, tick, watching

TIME = 1_795_327_200
"""2026-11-22T06:00:00Z, which `tick` says."""


def pending(days: float) -> dict[str, Any]:
    return {"KeyState": "PendingDeletion", "DeletionDate": TIME + days * DAY}


def run(test: Callable[[Function, Sns, Account], Coroutine[Any, Any, None]], keys: Keys, sns: Sns | None = None, **more: Any) -> None:
    async def with_rig() -> None:
        async with asyncio.timeout(240), watching(keys, sns, **more) as (function, topics, account):
            await test(function, topics, account)

    asyncio.run(with_rig())


def findings(sns: Sns) -> list[dict[str, Any]]:
    return [json.loads(message.body) for message in sns.held("findings")]


def metrics(function: Function) -> list[dict[str, Any]]:
    """The lines in embedded metric format."""
    lines = [json.loads(line) for stream, line in function.log if stream == "stdout" and line.startswith("{")]
    return [line for line in lines if "_aws" in line]


def test_ten_thousand_keys_are_swept_within_the_quotas_and_each_in_danger_is_told() -> None:
    at_risk = {n: pending(20 + n / 1000) for n in range(1, 301)}
    keys = Keys(10_000, at_risk, last_usage=False)

    async def test(function: Function, sns: Sns, account: Account) -> None:
        account.stack = "denied"
        attempt = await function.invoke(tick("sweep"), "r")
        assert (attempt.ended, attempt.said["keys"], attempt.said["at_risk"]) == ("answered", 10_000, 300), attempt.said
        assert (attempt.said["not_looked_at"], attempt.said["messages"]) == (0, 301)
        assert not keys.throttled
        assert len(keys.described) == 10_000 and set(keys.described.values()) == {1}
        assert keys.tries == {
            "ListKeys": 10, "DescribeKey": 10_000, "ListAliases": 100, "ListResourceTags": 300, "GetKeyLastUsage": 1,
        }
        (digest,) = sns.held("alerts")
        assert digest.subject.startswith("[MEDIUM] 300 KMS keys at risk, the first is destroyed in "), digest.subject
        assert {finding["finding_info"]["uid"] for finding in findings(sns)} == {arn(n) for n in at_risk}
        (line,) = metrics(function)
        assert (line["Heartbeat"], line["KeysInDanger"], line["DaysLeft"]) == (1, [300], [20])
        assert "HeldBack" not in line

    run(test, keys)


def test_throttling_slows_the_sweep_down_and_loses_no_key() -> None:
    # As if the rest of the account left little of the quota.
    keys = Keys(1_500, {7: {"KeyState": "Disabled"}}, quotas=QUOTAS | {"DescribeKey": 150}, last_usage=False)

    async def test(function: Function, sns: Sns, _: Account) -> None:
        attempt = await function.invoke(tick("sweep"), "r")
        assert keys.throttled["DescribeKey"] > 100
        told = attempt.said["not_looked_at"]
        assert attempt.said["at_risk"] + told >= 1
        assert len(keys.described) == 1_500 - told
        if told:
            assert f"{told} key" in sns.held("alerts")[0].body

    run(test, keys)


def test_keys_that_cannot_be_looked_at_are_in_the_digest_with_the_reason() -> None:
    keys = Keys(20, refused={3: "AccessDeniedException", 4: "AccessDeniedException"}, last_usage=False)

    async def test(function: Function, sns: Sns, _: Account) -> None:
        attempt = await function.invoke(tick("sweep"), "r")
        assert (attempt.said["at_risk"], attempt.said["not_looked_at"]) == (0, 2)
        (digest,) = sns.held("alerts")
        assert "2 of 20 KMS keys couldn't be checked" in digest.subject
        assert "2 keys: KMS refused the guard's role (AccessDenied)" in digest.body
        assert not findings(sns)

    run(test, keys)


def test_a_quiet_day_sends_nothing_and_leaves_a_heartbeat() -> None:
    async def test(function: Function, sns: Sns, account: Account) -> None:
        account.stack = "denied"
        await function.invoke(tick("coverage"), "r")
        assert not sns.messages
        (line,) = metrics(function)
        assert line["Heartbeat"] == 1 and line["Look"] == "coverage"

    run(test, Keys(5, last_usage=False))


def test_reminders_go_to_both_topics_with_the_same_uid_on_every_repeat() -> None:
    states = {1: pending(7.2), 2: pending(3.7), 3: pending(1), 4: pending(5), 5: {"KeyState": "Disabled"}}

    async def test(function: Function, sns: Sns, _: Account) -> None:
        first = await function.invoke(tick("sweep"), "r")
        assert first.said["messages"] == 6
        told = [message for message in sns.held("alerts") if message.attributes["event_name"] == "key-at-risk"]
        reminded = {message.attributes["key_arn"]: message.attributes["severity"] for message in told}
        assert reminded == {arn(1): "High", arn(2): "High", arn(3): "Critical"}
        assert {m.attributes["detection"] for m in told} == {"key-at-risk"}
        uids = sorted(finding["metadata"]["uid"] for finding in findings(sns))
        assert len(uids) == len(set(uids)) == 5
        await function.invoke(tick("sweep", "2026-11-22T06:00:00Z"), "again")
        assert sorted(f["metadata"]["uid"] for f in findings(sns))[::2] == uids
        await function.invoke(tick("sweep", "2026-11-23T06:00:00Z"), "next day")
        assert len({f["metadata"]["uid"] for f in findings(sns)}) == 10

    run(test, Keys(20, states, last_usage=False))


DISABLED_ON_PURPOSE = {n: {"KeyState": "Disabled"} for n in range(1, 6)}


async def month(function: Function, sns: Sns) -> list[int]:
    """The days of 30, from Sunday 22 November on, on which people get mail."""
    told = []
    for day in range(30):
        date = datetime.fromtimestamp(TIME + day * DAY, UTC)
        before = len(sns.held("alerts"))
        await function.invoke(tick("sweep", date.strftime("%Y-%m-%dT%H:%M:%SZ")), str(day))
        told += [day] * (len(sns.held("alerts")) - before)
    return told


def test_a_month_with_five_keys_disabled_on_purpose_has_the_first_digest_and_the_mondays() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        assert await month(function, sns) == [0, 1, 8, 15, 22, 29]
        assert "Nothing changed; this is Monday's." in sns.held("alerts")[-1].body
        # What machines make of it is theirs: the same five findings, each day's with an identity of its own.
        assert len(findings(sns)) == 30 * 5 == len({finding["metadata"]["uid"] for finding in findings(sns)})

    run(test, Keys(9, DISABLED_ON_PURPOSE, last_usage=False))


def test_a_month_of_acknowledged_keys_has_one_digest_for_what_else_is_wrong_and_its_mondays() -> None:
    acknowledged = ",".join(arn(n) if n % 2 else arn(n).rpartition("/")[2] for n in DISABLED_ON_PURPOSE)
    gone = "1234abcd-12ab-34cd-56ef-1234567890ab"

    async def test(function: Function, sns: Sns, _: Account) -> None:
        assert await month(function, sns) == [0, 1, 8, 15, 22, 29]
        body = sns.held("alerts")[0].body
        assert "Acknowledged: 5, disabled on purpose" in body and arn(1).rpartition("/")[2] not in body
        assert f"AcknowledgedKeys holds {gone}, which is no key of this account and Region." in body
        assert not findings(sns)

    run(test, Keys(9, DISABLED_ON_PURPOSE, last_usage=False), ACKNOWLEDGED_KEYS=f"{acknowledged},{gone}")


def test_a_digest_log_that_cannot_be_read_is_said_every_day() -> None:
    async def test(function: Function, sns: Sns, account: Account) -> None:
        account.log_is_readable = False
        assert await month(function, sns) == list(range(30))
        assert "What it held can't be read, so this one is sent anyway: " in sns.held("alerts")[-1].body

    run(test, Keys(9, DISABLED_ON_PURPOSE, last_usage=False))


def test_a_mass_event_is_one_message_with_what_the_alert_log_has() -> None:
    line = {"message": "alert", "detection": "key-disabled", "finding_uid": arn(1), "key_name": "alias/a", "caller": "c"}
    state = {"value": "ALARM", "timestamp": "2026-11-22T06:00:00.000+0000"}
    went_off = {"source": "aws.cloudwatch", "alarmData": {"alarmName": "guard.MassEventAlarm", "state": state}}

    async def test(function: Function, sns: Sns, account: Account) -> None:
        function.log.append(("stdout", json.dumps(line)))
        attempt = await function.invoke(json.dumps(went_off).encode(), "r")
        assert (attempt.said["look"], attempt.said["at_risk"]) == ("mass-event", 1)
        account.log_is_readable = False
        await function.invoke(json.dumps(went_off).encode(), "again")
        first, second = sns.held("alerts")
        assert first.subject == "[CRITICAL] 1 KMS key put at risk within minutes (111122223333 eu-west-1)"
        assert first.attributes["event_name"] == "mass-event" and f"key-disabled, alias/a, {arn(1)}" in first.body
        assert "the alert function's log can't be read" in second.body
        assert not findings(sns)

    run(test, Keys(1), ALERT_LOG_GROUP_NAME="/aws/lambda/alert")


def test_chat_topic_gets_the_digest_and_the_reminders_and_fails_the_run_as_the_others_do() -> None:
    keys, denies = {1: pending(7.2), 2: pending(5)}, Sns({"chat": (Fault.NONE, Fault.NONE, Fault.DENIED)})

    async def test(function: Function, sns: Sns, _: Account) -> None:
        await function.invoke(tick("sweep"), "r")
        titles = {json.loads(message.body)["content"]["title"] for message in sns.held("chat")}
        assert titles == {message.subject for message in sns.held("alerts")} and len(titles) == 2
        refused = await function.invoke(tick("sweep", "2026-11-23T06:00:00Z"), "s")
        assert refused.said["errorType"] == "PublishFailed"
        assert "the chat topic didn't take the alert" in refused.said["errorMessage"]

    run(test, Keys(9, keys, last_usage=False), denies, **CHAT)


def test_minimum_severity_holds_findings_back_and_never_the_digest() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        await function.invoke(tick("sweep"), "r")
        assert [finding["finding_info"]["uid"] for finding in findings(sns)] == [arn(3)]
        assert len([m for m in sns.held("alerts") if m.attributes["event_name"] == "daily-digest"]) == 1
        assert metrics(function)[0]["HeldBack"] == 1

    run(test, Keys(9, {3: pending(1), 5: {"KeyState": "Disabled"}}), MINIMUM_SEVERITY="High")


def test_a_key_whose_last_use_is_unknown_is_not_held_back() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        await function.invoke(tick("sweep"), "r")
        assert [(f["finding_info"]["uid"], f["severity"]) for f in findings(sns)] == [(arn(5), "Medium")]

    run(test, Keys(9, {5: {"KeyState": "Disabled"}}, last_usage=False), MINIMUM_SEVERITY="High")


def test_a_message_that_is_not_taken_fails_the_run_and_what_is_left_is_tried() -> None:
    gone = Sns({"findings": (Fault.DENIED,)})

    async def test(function: Function, sns: Sns, _: Account) -> None:
        delivery = await function.deliver(tick("sweep"))
        assert [attempt.ended for attempt in delivery.attempts] == ["reported"] * 3
        assert delivery.attempts[0].said["errorType"] == "PublishFailed"
        assert "2 of 3 messages weren't taken" in delivery.attempts[0].said["errorMessage"]
        assert function.failure_queue == [tick("sweep")]
        assert len(sns.held("alerts")) == 3, "the digest goes out with each try"
        assert not metrics(function), "a run that failed leaves no heartbeat"

    run(test, Keys(9, {3: pending(20), 5: {"KeyState": "Disabled"}}, last_usage=False), gone)


def test_kms_that_lists_no_keys_fails_the_run() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        attempt = await function.invoke(tick("sweep"), "r")
        assert (attempt.ended, attempt.said["errorType"]) == ("reported", "SweepFailed")
        assert not metrics(function)

    run(test, Keys(9, quotas=QUOTAS | {"ListKeys": 0}))


def test_a_blind_spot_is_told_once_and_so_is_its_end() -> None:
    async def test(function: Function, sns: Sns, account: Account) -> None:
        def told() -> list[tuple[str, str]]:
            messages = [json.loads(m.body) for m in sns.held("findings")]
            sns.messages.clear()
            return [(m["resources"][0]["uid"], m["activity_name"]) for m in messages]

        at = [f"2026-11-22T{hour:02}:00:00Z" for hour in range(8)]
        await function.invoke(tick("coverage", at[0]), "0")
        subject = sns.held("alerts")[0].subject
        assert subject == "[HIGH] KMS Key Guard is blind, or its alerts reach no one: guard-deployed (111122223333 eu-west-1)"
        assert told() == [("guard-deployed", "Create")]
        await function.invoke(tick("coverage", at[1]), "1")
        assert told() == []
        # Not being able to look is no mending.
        account.stack = "denied"
        await function.invoke(tick("coverage", at[2]), "2")
        assert told() == []
        account.stack = "there"
        await function.invoke(tick("coverage", at[3]), "3")
        assert ("guard-deployed", "Close") in told()
        # What can't be remembered is said again.
        account.stack, account.log_is_readable = "no such stack", False
        for hour in (4, 5):
            await function.invoke(tick("coverage", at[hour]), str(hour))
            assert ("guard-deployed", "Create") in told()

    run(test, Keys(1))


def test_what_still_fails_is_told_again_the_next_day() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        told = []
        for at in ("22T23:00", "22T23:59", "23T00:59", "23T01:59"):
            await function.invoke(tick("coverage", f"2026-11-{at}:00Z"), at)
            told.append(len(sns.held("findings")))
        assert told == [1, 1, 2, 2]

    run(test, Keys(1))


def test_what_another_one_wrote_into_the_log_is_not_believed() -> None:
    async def test(function: Function, sns: Sns, account: Account) -> None:
        await function.invoke(tick("coverage", "2026-11-22T06:00:00Z"), "0")
        sns.messages.clear()
        early = 1_795_327_200_000 - 120_000
        for number, forged in enumerate([{"logStreamName": "made-up"}, {"ingestionTime": early}, {"ingestionTime": early + DAY * 1000}]):
            account.forged = forged
            await function.invoke(tick("coverage", "2026-11-22T07:00:00Z"), str(number))
            assert [m.attributes["detection"] for m in sns.held("findings")] == ["guard-blind"], forged
            sns.messages.clear()

    run(test, Keys(1))


def test_a_change_starts_one_run_which_tells_all_and_what_comes_later_is_given_back() -> None:
    async def test(function: Function, sns: Sns, account: Account) -> None:
        await function.invoke(tick("coverage", "2026-11-22T06:00:00Z"), "0")
        sns.messages.clear()
        attempt = await function.invoke(batch(stack_event(), stack_event()), "1")
        assert (attempt.said["outcome"], attempt.said["batchItemFailures"]) == ("done", [])
        assert [m.attributes["activity"] for m in sns.held("findings")] == ["Create"], "what is known to be missing too"
        sns.messages.clear()
        # Seen by that run, or after it.
        attempt = await function.invoke(batch(stack_event(), sent=0), "2")
        assert (attempt.said["outcome"], attempt.said["batchItemFailures"]) == ("seen-before", [])
        attempt = await function.invoke(batch(stack_event(), "x"), "3")
        assert attempt.said["outcome"] == "given-back"
        assert attempt.said["batchItemFailures"] == [{"itemIdentifier": "m-0"}, {"itemIdentifier": "m-1"}]
        assert not sns.messages and len(metrics(function)) == 2

    run(test, Keys(1))


def test_messages_that_are_not_about_this_guard_start_nothing_and_say_why() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        attempt = await function.invoke(batch(stack_event("guard-2"), "{", 'x\n{"level":"ERROR"}', "[" * 5_000), "1")
        assert (attempt.said["outcome"], attempt.said["batchItemFailures"]) == ("seen-before", [])
        ignored = [line for _, line in function.log if "a message of the self-check queue is ignored" in line]
        assert len(ignored) == 4 and "and not this guard's" in ignored[0]
        assert not sns.messages and not metrics(function)

    run(test, Keys(1))


def test_a_stack_that_is_being_changed_is_checked_when_that_has_ended() -> None:
    async def test(function: Function, sns: Sns, account: Account) -> None:
        account.stack, account.status = "there", "UPDATE_IN_PROGRESS"
        attempt = await function.invoke(batch(stack_event()), "1")
        assert (attempt.said["outcome"], attempt.said["batchItemFailures"]) == ("still-changing", [])
        assert not sns.messages and not metrics(function)
        account.status = "UPDATE_COMPLETE"
        attempt = await function.invoke(batch(stack_event()), "2")
        assert attempt.said["outcome"] == "done" and sns.messages

    run(test, Keys(1))


def test_a_check_that_still_fails_is_in_the_daily_digest() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        await function.invoke(tick("sweep"), "r")
        (digest,) = sns.held("alerts")
        assert digest.subject.startswith("[HIGH] KMS Key Guard: 1 self-check failed")
        assert "THE GUARD ITSELF\n  FAIL guard-deployed: " in digest.body

    run(test, Keys(5, last_usage=False))


def test_anything_but_a_tick_is_refused_with_what_is_taken() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        for event in (b"{}", b'{"look": "sweep"}', b'{"look": "sweep", "time": "<aws.scheduler.scheduled-time>"}', b"[]"):
            attempt = await function.invoke(event, "r")
            assert attempt.said["errorType"] == "WrongInput"
            assert 'it takes {"look": "sweep" or "coverage"' in attempt.said["errorMessage"]

    run(test, Keys(1))


def test_a_wrong_setting_stops_the_function_at_start_and_names_itself() -> None:
    async def test(function: Function, _: Sns, __: Account) -> None:
        await function.start()
        assert await function.exit_status(10) == 1
        assert any("REMINDER_DAYS" in line and "whole days from 1 to 30" in line for _, line in function.log)

    run(test, Keys(1), REMINDER_DAYS="0")


def test_nothing_of_the_credentials_is_said() -> None:
    async def test(function: Function, sns: Sns, _: Account) -> None:
        await function.invoke(tick("sweep"), "r")
        said = [line for _, line in function.log] + function.reports + [m.body for m in sns.messages]
        assert not any(function.credentials.found_in(text) for text in said)

    run(test, Keys(5, {2: pending(1)}, last_usage=False))
