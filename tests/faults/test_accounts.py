"""Five hundred accounts, the alert function as it ships as their hub: nothing lost, nobody mistaken, no call too many."""

import asyncio

from local.rig.accounts import organization, run


def test_every_account_is_heard_and_no_call_is_made_twice() -> None:
    figures, wrong = asyncio.run(run(organization(500, seed=1), instances=4))
    assert wrong == [], dict(figures)
    assert dict(figures)["events"] == 3000
