"""An organization of 1,000 accounts in 17 Regions, as the hub's watch function asks for it: `python -m local.rig.roster`.

Prints what its roster asks of Organizations, CloudFormation and Logs, and how long it takes on loopback, where every answer
comes at once.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from . import ACCOUNT, Connection, Request, response
from .sweeping import Account, Keys, _xml, tick, watching

MANAGEMENT = "123456789012"
HEARTBEATS = "/aws/events/guard-heartbeats"
REGIONS = (
    "eu-west-1 us-east-1 us-east-2 us-west-1 us-west-2 ca-central-1 sa-east-1 eu-west-2 eu-west-3 eu-central-1 eu-north-1 "
    "ap-south-1 ap-southeast-1 ap-southeast-2 ap-northeast-1 ap-northeast-2 ap-northeast-3"
).split()
THREE_DAYS = 3 * 24 * 60 * 60 * 1_000
"""In milliseconds."""
BEATS = 2
"""Heartbeats of a place in the time that counts."""
INSTANCES_A_PAGE, ACCOUNTS_A_PAGE, BEATS_A_PAGE = 100, 20, 2_500
"""What AWS gives at a time: of heartbeats 1 MB."""

Place = tuple[str, str]


class Spokes(Account):
    """The AWS of a hub: so many accounts, the management account and the hub's own among them, in these Regions.

    `without` have no stack instance, `ill` one that failed; these send no heartbeat, the `silent` none since three days.
    """

    def __init__(
        self,
        accounts: int,
        regions: Iterable[str] = REGIONS,
        without: Iterable[Place] = (),
        ill: Iterable[Place] = (),
        silent: Iterable[Place] = (),
    ) -> None:
        super().__init__()
        silent = list(silent)
        self.accounts = [MANAGEMENT, ACCOUNT, *(f"{200_000_000_000 + n}" for n in range(accounts - 2))]
        self.regions, self.without, self.ill = list(regions), set(without), set(ill)
        places = [(account, region) for account in self.accounts for region in self.regions]
        quiet = self.without | self.ill | {*silent}
        self.instances = [place for place in places if place[0] != MANAGEMENT and place not in self.without]
        now = round(time.time() * 1_000)
        self.beats = [(now - THREE_DAYS, place) for place in silent] * BEATS
        self.beats += [(now, place) for place in places if place not in quiet] * BEATS
        self.refused: set[str] = set()
        """Operations that are denied."""
        self.asked: Counter[str] = Counter()

    async def answer(self, request: Request, connection: Connection) -> None:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2] or form.get("Action", "")
        answers = {
            "DescribeStackSet": self._stack_set,
            "ListStackInstances": self._stack_instances,
            "DescribeOrganization": self._organization,
            "ListAccounts": self._accounts,
            "FilterLogEvents": self._heartbeats,
        }
        is_ours = operation in answers and (operation != "FilterLogEvents" or HEARTBEATS.encode() in request.body)
        if not is_ours or operation in self.refused:
            await super().answer(request, connection)
            return
        self.asked[operation] += 1
        await connection.send(answers[operation](form or json.loads(request.body)))

    def _stack_set(self, _: dict[str, str]) -> bytes:
        regions = "".join(f"<member>{region}</member>" for region in self.regions)
        units = "<OrganizationalUnitIds><member>r-ab12</member></OrganizationalUnitIds>"
        return _result("DescribeStackSet", f"<StackSet>{units}<Regions>{regions}</Regions></StackSet>")

    def _stack_instances(self, asked: dict[str, str]) -> bytes:
        page, following = _page(self.instances, asked.get("NextToken"), INSTANCES_A_PAGE)
        members = "".join(
            f"<member><Account>{account}</Account><Region>{region}</Region>"
            + ("<Status>OUTDATED</Status>" if (account, region) in self.ill else "<Status>CURRENT</Status>")
            + "<StackInstanceStatus><DetailedStatus>"
            + ("FAILED" if (account, region) in self.ill else "SUCCEEDED")
            + "</DetailedStatus></StackInstanceStatus></member>"
            for account, region in page
        )
        token = f"<NextToken>{following}</NextToken>" if following else ""
        return _result("ListStackInstances", f"<Summaries>{members}</Summaries>{token}")

    def _organization(self, _: dict[str, str]) -> bytes:
        return _json({"Organization": {"Id": "o-a1b2c3d4e5", "MasterAccountId": MANAGEMENT}})

    def _accounts(self, asked: dict[str, str]) -> bytes:
        page, following = _page(self.accounts, asked.get("NextToken"), ACCOUNTS_A_PAGE)
        accounts = [{"Id": account, "State": "ACTIVE", "JoinedTimestamp": 1_700_000_000} for account in page]
        return _json({"Accounts": accounts, **({"NextToken": following} if following else {})})

    def _heartbeats(self, asked: dict[str, str]) -> bytes:
        beats = [beat for beat in self.beats if beat[0] >= int(asked.get("startTime", 0))]
        page, following = _page(beats, asked.get("nextToken"), BEATS_A_PAGE)
        events = [{"timestamp": at, "message": json.dumps(_beat(*place))} for at, place in page]
        return _json({"events": events, **({"nextToken": following} if following else {})})


def _beat(account: str, region: str) -> dict[str, object]:
    rule = f"arn:aws:events:{region}:{account}:rule/kms-key-guard-spoke-heartbeat"
    return {
        "version": "0",
        "id": "0a1b2c3d-0000-4000-8000-000000000000",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": "2026-11-22T05:00:00Z",
        "region": region,
        "resources": [rule],
        "detail": {},
    }


def _page(whole: list[Any], token: str | None, size: int) -> tuple[list[Any], str]:
    first = int(token or 0)
    return whole[first : first + size], str(first + size) if first + size < len(whole) else ""


def _json(body: dict[str, object]) -> bytes:
    return response(200, json.dumps(body).encode(), Content_Type="application/x-amz-json-1.1")


def _result(operation: str, inner: str) -> bytes:
    return _xml(200, f"<{operation}Response><{operation}Result>{inner}</{operation}Result></{operation}Response>")


async def _measure(accounts: int) -> None:
    spokes = Spokes(accounts, silent=[(MANAGEMENT, REGIONS[0])])
    async with watching(Keys(10), account=spokes, HEARTBEAT_LOG_GROUP=HEARTBEATS) as (function, sns, _):
        began = time.monotonic()
        await function.deliver(tick("sweep"))
        seconds = time.monotonic() - began
        (digest,) = sns.held("alerts")
    print(f"{accounts} accounts in {len(REGIONS)} Regions: {seconds:.1f} s")
    for operation, times in sorted(spokes.asked.items()):
        print(f"  {times:>6} × {operation}")
    print(next(line for line in digest.body.splitlines() if "organization-heard" in line))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.rig.roster", description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=1_000)
    asyncio.run(_measure(parser.parse_args().accounts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
