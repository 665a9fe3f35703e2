"""`make accounts`: an organization's accounts through the alert function as their hub, and an account of every call.

Events of hundreds of accounts in several Regions, in a seeded order, through several instances of the function. Some
accounts have no reader role, and some a role that answers for another account. What has to come of each is worked out
here, without the function's code.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from .faults import template_timeout
from .load import Instance
from . import ACCOUNT, OPERATIONS, ROOT, TOPICS, Connection, Function, Kms, Request, Schedule, Sns, Sts, report
from ..steps import end_on_signals

SAMPLE = ROOT / "events" / "deletion-scheduled.json"
REGIONS = ("eu-west-1", "us-east-1", "ap-southeast-2")
"""Where each account's keys are."""
EACH = 2
"""Events of each account in each Region."""
ONE_IN = 25
"""One account in so many has no reader role, and another one that answers for another account."""


class OrganizationKms(Kms):
    """KMS in every account and Region; notes the calls that came with another account's session or Region."""

    def __init__(self, sts: Sts, faults: Mapping[str, Schedule] = {}) -> None:
        super().__init__(faults)
        self._sts = sts
        self.calls: Counter[str] = Counter()
        """By the key's account."""
        self.wrong: list[str] = []

    def good(self, request: Request, connection: Connection) -> bytes:
        _, _, _, region, account, _ = json.loads(request.body)["KeyId"].split(":")
        self.calls[account] += 1
        session = self._sts.sessions.get(request.headers.get("x-amz-security-token", ""))
        signed_for = re.findall(r"Credential=[^/]+/\d{8}/([^/]+)/kms/", request.headers.get("authorization", ""))
        if session != (account if account != ACCOUNT else None) or signed_for != [region]:
            self.wrong.append(f"a call about a key of {account} {region} came as {session or 'the hub'} for {signed_for}")
        return super().good(request, connection)


@dataclass(frozen=True)
class Event:
    """An event of an account and Region, and the key it is about."""

    account: str
    region: str
    key: str
    body: bytes


@dataclass
class Organization:
    """The accounts, and what was sent for them."""

    accounts: list[str]
    refused: frozenset[str]
    lying: frozenset[str]
    events: list[Event]

    @property
    def honest(self) -> set[str]:
        """The accounts whose reader role is as it should be, the hub not among them."""
        return set(self.accounts) - self.refused - self.lying - {ACCOUNT}


def organization(count: int, seed: int) -> Organization:
    """So many accounts, the hub among them, with their events in the order of arrival."""
    lot = random.Random(seed)
    accounts = [ACCOUNT, *(f"{number:012}" for number in lot.sample(range(10**11, 9 * 10**11), count - 1))]
    refused, lying = frozenset(accounts[1::ONE_IN]), frozenset(accounts[2::ONE_IN])
    sample = SAMPLE.read_text()
    key = re.findall(r":key/([0-9a-f-]+)", sample)[0]
    events = []
    for account in accounts:
        for region in REGIONS * EACH:
            identity = str(uuid.UUID(int=lot.getrandbits(128), version=4))
            record: Any = json.loads(
                sample.replace(key, identity).replace(ACCOUNT, account).replace("eu-west-1", region)
            )
            record["detail"]["eventID"] = record["id"] = str(uuid.UUID(int=lot.getrandbits(128), version=4))
            events.append(Event(account, region, identity, json.dumps(record).encode()))
    lot.shuffle(events)
    return Organization(accounts, refused, lying, events)


@dataclass
class Run:
    """What came of the events."""

    organization: Organization
    sns: Sns
    kms: OrganizationKms
    sts: Sts
    pool: list[Instance]
    served: list[set[str]] = field(default_factory=list)
    """The accounts that each instance had to do with."""

    @property
    def sessions_needed(self) -> int:
        """One for every account that an instance looks keys up in, and a try for every event of the others."""
        honest = self.organization.honest
        others = self.organization.refused | self.organization.lying
        tries = sum(event.account in others for event in self.organization.events)
        return sum(len(served & honest) for served in self.served) + tries

    @property
    def look_ups_needed(self) -> int:
        """Five for every event of an account that lets itself be read."""
        readable = self.organization.honest | {ACCOUNT}
        return len(OPERATIONS) * sum(event.account in readable for event in self.organization.events)

    def mismatches(self) -> Iterator[str]:
        """What isn't as it has to be."""
        yield from self.kms.wrong
        readable = self.organization.honest | {ACCOUNT}
        expected = Counter(
            (f"arn:aws:kms:{event.region}:{event.account}:key/{event.key}", event.account, event.region)
            for event in self.organization.events
        )
        for topic in TOPICS:
            held = self.sns.held(topic)
            found = Counter((m.attributes["key_arn"], m.attributes["account"], m.attributes["region"]) for m in held)
            for alerts, what in ((expected - found, "lost"), (found - expected, "too many")):
                yield from (f"{topic}: {alert} {what}" for alert in alerts)
        for message in self.sns.held("alerts"):
            account, told = message.attributes["account"], "team-payments" in message.body
            if told != (account in readable):
                yield f"the alert of account {account} {'has' if told else 'lacks'} what KMS says of the key"
            reason = {
                account in self.organization.refused: "isn't there, or doesn't let the guard in",
                account in self.organization.lying: "answered with another session",
            }.get(True)
            if reason and reason not in " ".join(message.body.split()):
                yield f"the alert of account {account} doesn't say why nothing is known of the key: {reason}"
        if self.sts.asked.total() != self.sessions_needed:
            yield f"{self.sts.asked.total()} sessions were asked for, and {self.sessions_needed} are needed"
        if self.sts.asked[ACCOUNT]:
            yield "a role was assumed in the hub's own account"
        if self.kms.calls.total() != self.look_ups_needed:
            yield f"{self.kms.calls.total()} look-ups were made, and {self.look_ups_needed} are needed"
        for number, instance in enumerate(self.pool, 1):
            if instance.failed:
                yield f"{instance.failed} invocations of instance {number} failed, and nothing stood in their way"

    def figures(self) -> Iterator[tuple[str, object]]:
        """What to print."""
        yield "accounts", len(self.organization.accounts)
        yield "without a reader role", len(self.organization.refused)
        yield "with one that answers for another account", len(self.organization.lying)
        yield "Regions", len(REGIONS)
        yield "events", len(self.organization.events)
        for topic in TOPICS:
            yield f"at the {topic} topic", len(self.sns.held(topic))
        yield "calls to STS", self.sts.asked.total()
        yield "of these refused or not trusted", sum(
            n for account, n in self.sts.asked.items() if account not in self.organization.honest
        )
        yield "calls to KMS", self.kms.calls.total()
        for number, instance in enumerate(self.pool, 1):
            yield f"instance {number}, KiB resident: end / peak", " / ".join(
                str(instance.memory(name)) for name in ("VmRSS", "VmHWM")
            )


async def run(organization: Organization, instances: int) -> tuple[list[tuple[str, object]], list[str]]:
    """Hand the events to so many instances; the figures and the mismatches."""
    sts = Sts(refused=organization.refused, lying=organization.lying)
    async with sts, Sns() as sns, OrganizationKms(sts) as kms, AsyncExitStack() as running:
        environment = {
            "READER_ROLE_NAME": "kms-key-guard-spoke-reader",
            "HUB_ACCOUNT_ID": ACCOUNT,
            "AWS_ENDPOINT_URL_STS": f"http://{sts.address}",
        }
        functions = [Function(sns, kms, template_timeout(), environment) for _ in range(instances)]
        pool = [Instance(await running.enter_async_context(function)) for function in functions]
        done = Run(organization, sns, kms, sts, pool)
        events = iter(organization.events)

        async def work(instance: Instance) -> set[str]:
            served = set()
            for event in events:
                *failed, _ = (await instance.function.deliver(event.body)).attempts
                instance.failed += len(failed)
                served.add(event.account)
            return served

        done.served = await asyncio.gather(*map(work, pool))
        return list(done.figures()), list(done.mismatches())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make accounts", description=__doc__.partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end_on_signals()
    figures, wrong = asyncio.run(run(organization(options.accounts, options.seed), options.instances))
    return report("accounts", figures, wrong)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
