"""The hub's digest says which accounts and Regions of the organization are missing, and why."""

import asyncio
from collections.abc import Iterable

from local.rig import ACCOUNT
from local.rig.roster import HEARTBEATS, MANAGEMENT, REGIONS, Place, Spokes
from local.rig.sweeping import Keys, tick, watching

MEMBER = "200000000000"


def digest(spokes: Spokes, **environment: str) -> str:
    """The digest's words in one line; empty if there is none."""

    async def run() -> str:
        settings = {"HEARTBEAT_LOG_GROUP": HEARTBEATS, **environment}
        async with asyncio.timeout(240), watching(Keys(10), account=spokes, **settings) as (function, sns, _):
            attempt = await function.invoke(tick("sweep"), "r")
            assert attempt.ended == "answered", attempt.said
            return " ".join(" ".join(message.body.split()) for message in sns.held("alerts"))

    return asyncio.run(run())


def places(accounts: Iterable[str], regions: Iterable[str]) -> list[Place]:
    return [(account, region) for account in accounts for region in regions]


def test_a_thousand_accounts_in_seventeen_regions_are_looked_through_page_by_page() -> None:
    spokes = Spokes(1_000)
    assert "organization-heard" not in digest(spokes)
    assert spokes.asked == {
        "DescribeStackSet": 1,
        "DescribeOrganization": 1,
        "ListAccounts": 50,
        "ListStackInstances": 170,
        "FilterLogEvents": 14,
    }


def test_who_is_missing_is_named_with_the_reason() -> None:
    spokes = Spokes(
        100,
        without=places([MEMBER], REGIONS),
        ill=[(ACCOUNT, "us-east-1")],
        silent=[(MANAGEMENT, "eu-west-1"), ("200000000001", "eu-west-2")],
    )
    text = digest(spokes)
    assert "FAIL organization-heard: 100 accounts in 17 Regions should be heard; 20 of these 1700 places are missing." in text
    assert f"17 have no spoke: {MEMBER} in all Regions." in text
    assert f"1 have a spoke that isn't healthy: {ACCOUNT} in us-east-1 (OUTDATED, FAILED)." in text
    assert f"2 were silent for 26 hours: {MANAGEMENT} in eu-west-1; 200000000001 in eu-west-2." in text


def test_what_cannot_be_read_is_told_and_makes_nobody_missing() -> None:
    for operation, words in {
        "DescribeStackSet": "The StackSet kms-key-guard-spoke couldn't be read",
        "ListStackInstances": "The StackSet's instances couldn't be read",
        "ListAccounts": "The organization's accounts couldn't be read",
    }.items():
        spokes = Spokes(10)
        spokes.refused.add(operation)
        text = digest(spokes)
        assert "UNKNOWN organization-heard" in text and words in text, text
        assert "AccessDenied" in text


def test_who_fell_silent_is_named_even_where_the_stack_set_cannot_be_read() -> None:
    spokes = Spokes(10, silent=[(MANAGEMENT, "eu-west-1")])
    spokes.refused.add("DescribeStackSet")
    text = digest(spokes)
    assert "FAIL organization-heard: 10 accounts in 17 Regions should be heard; 1 of these 170 places are missing." in text
    assert f"1 were silent for 26 hours: {MANAGEMENT} in eu-west-1." in text
    assert "The StackSet kms-key-guard-spoke couldn't be read" in text and "AccessDenied" in text
    assert spokes.asked.keys() == {"FilterLogEvents"}
    spokes.refused.add("FilterLogEvents")
    spokes.log_is_readable = False
    text = digest(spokes)
    assert "UNKNOWN organization-heard" in text and "The heartbeats couldn't be read" in text


def test_a_guard_of_one_account_asks_for_no_organization() -> None:
    spokes = Spokes(10)
    assert "organization-heard" not in digest(spokes, HEARTBEAT_LOG_GROUP="")
    assert not spokes.asked
