"""What happens to the process itself: a wrong environment, a crash, a freeze between two events."""

import asyncio
import json
import os
import signal
from collections.abc import Callable

import pytest

from local.rig.faults import EVENT, UID
from local.rig import TOPICS, Fault, Function, Kms, Sns


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALERTS_TOPIC_ARN", ""),
        ("FINDINGS_TOPIC_ARN", "arn:aws:sqs:eu-west-1:111122223333:findings"),
        ("MINIMUM_SEVERITY", "Severe"),
        ("ENRICH_TIMEOUT_MS", "2s"),
        ("REPORT_DENIED_ATTEMPTS", "yes"),
        ("EXPECTED_PRINCIPALS", "arn:aws:sts::111122223333:assumed-role/admin/alice"),
    ],
)
def test_wrong_variable_stops_the_function_at_start_and_is_named(
    with_rig: Callable[..., None], name: str, value: str
) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        await function.start()
        assert await function.exit_status(5) not in (None, 0)
        (line,) = (json.loads(line) for stream, line in function.log if stream == "stdout")
        assert line["level"] == "ERROR"
        assert line["cause"].startswith(name) and value in line["cause"] and "it takes" in line["cause"]

    with_rig(test, **{name: value})


def test_event_survives_a_function_that_cannot_start(with_rig: Callable[..., None]) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        delivery = await function.deliver(EVENT)
        assert [attempt.ended for attempt in delivery.attempts] == ["exited"] * 3
        assert function.failure_queue == [EVENT]

    with_rig(test, ALERTS_TOPIC_ARN="alerts")


def test_event_survives_a_crash_half_way_through_publishing(with_rig: Callable[..., None]) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        sns.faults = {"alerts": (Fault.HANGS, Fault.NONE)}
        delivery = asyncio.create_task(function.deliver(EVENT))
        while not sns.held("findings"):
            await asyncio.sleep(0.01)
        os.kill(function.process.pid, signal.SIGKILL)
        assert [attempt.ended for attempt in (await delivery).attempts] == ["exited", "answered"]
        assert [m.uid for m in sns.held("findings")] == [UID, UID], "the repeat can be told by its uid"
        assert [m.uid for m in sns.held("alerts")] == [UID]

    with_rig(test)


def test_function_that_stands_still_is_ended_and_the_event_repeated(with_rig: Callable[..., None]) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        sns.faults = {"*": (Fault.HANGS, Fault.NONE)}
        delivery = asyncio.create_task(function.deliver(EVENT))
        while not sns.tries:
            await asyncio.sleep(0.01)
        function.freeze()
        assert [attempt.ended for attempt in (await delivery).attempts] == ["timed out", "answered"]
        assert all(sns.held(topic) for topic in TOPICS)

    with_rig(test, timeout=4.0)


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "dead without a word"])
def test_connections_that_died_while_frozen_do_not_cost_the_next_alert(
    with_rig: Callable[..., None], silently: bool
) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        assert (await function.deliver(EVENT)).succeeded
        function.freeze()
        idle = [*sns.connections.values(), *kms.connections.values()]
        assert len(idle) >= 2, "the function keeps connections"
        for connection in idle:
            connection.dead = silently
            if not silently:
                connection.reset()
        await asyncio.sleep(0.1)
        function.thaw()
        delivery = await function.deliver(EVENT)
        assert [attempt.ended for attempt in delivery.attempts] == ["answered"]
        assert all(len(sns.held(topic)) == 2 for topic in TOPICS)

    with_rig(test)
