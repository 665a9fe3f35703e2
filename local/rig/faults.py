"""`make faults`: the alert function as it ships under every fault that SNS and KMS can have, and what became of the alert.

The tests in tests/faults assert what is printed here. The full matrix adds schedules of faults that are drawn by lot.
"""

import argparse
import asyncio
import random
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache


from . import CHAT, OPERATIONS, ROOT, TOPICS, Credentials, Delivery, Fault, Message, Schedule, rig, until_try
from ..steps import end_on_signals

EVENT = (ROOT / "events" / "key-disabled.json").read_bytes()
UID = str(
    uuid.uuid5(
        uuid.UUID("1c2f6a52-8d0b-5c57-9a3e-5b1f4f0e7d21"), "event\nkey-disabled\n081c3d13-17bd-4486-98f9-f35d915d2428"
    )
)
"""What has to be the `metadata.uid` of that event's alert, in every release."""

AT_ONCE = 32
"""How many cells run at the same time; they mostly wait."""


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix: the faults, and what has to come of them."""

    row: str
    column: str
    sns: Mapping[str, Schedule] = field(default_factory=dict)
    kms: Mapping[str, Schedule] = field(default_factory=dict)
    arrives_on: int | None = 1
    """The invocation that publishes the alert; None if the event has to end in the on-failure queue."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """The facts that the text has to name as not known, with the reason."""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    """Seconds, if not the template's."""
    foreseen: bool = True
    """Whether `arrives_on` and `lacks` say what has to happen; a random schedule only must not lose anything."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Where the alert has to go."""
        return (*TOPICS, "chat") if CHAT.keys() <= self.environment.keys() else TOPICS

    def __str__(self) -> str:
        return f"{self.column}: {self.row}"


@dataclass(frozen=True)
class Result:
    """What became of a cell."""

    cell: Cell
    delivery: Delivery
    messages: list[Message]
    queue: list[bytes]
    tries: Mapping[str, int]
    log: list[tuple[str, str]]
    reports: list[str]
    credentials: Credentials
    tokens: set[str]

    def held(self, topic: str) -> list[Message]:
        """What a topic has taken, and said so."""
        return [message for message in self.messages if message.topic == topic and message.acknowledged]

    @property
    def arrived(self) -> bool:
        """Whether the alert is at every topic, in one piece."""
        return all(any(message.uid == UID for message in self.held(topic)) for topic in self.cell.topics)

    @property
    def queued(self) -> bool:
        """Whether the event waits in the on-failure queue."""
        return self.queue == [EVENT]

    @property
    def lost(self) -> bool:
        """Whether nobody will ever hear of it."""
        return not self.queued and not (self.delivery.succeeded and self.arrived)

    @property
    def unknown(self) -> dict[str, str]:
        """The facts that the text names as not known, with the reason."""
        text = next((message.body for message in self.messages if message.topic == "alerts"), "")
        lines = re.findall(r"^  Not known: (.+?) \((.+)\)$", text, re.MULTILINE)
        return {fact: reason for facts, reason in lines for fact in facts.split(", ")}

    def __str__(self) -> str:
        attempts = self.delivery.attempts
        after = "at once" if attempts[-1].seconds < 0.5 else f"after {attempts[-1].seconds:.0f} s"
        if self.lost:
            return f"**LOST** ({attempts[-1].ended} {after})"
        if self.queued:
            return f"queue ({len(attempts)} × {' and '.join(sorted({a.ended for a in attempts}))}, {after})"
        without = "KMS's facts" if len(self.unknown) == len(FACTS) else ", ".join(self.unknown)
        on = f" on repeat {len(attempts) - 1}" if len(attempts) > 1 else f" {after}"
        return f"arrives{on}{', without ' if without else ''}{without}"


FACTS = {
    "DescribeKey": "state",
    "ListAliases": "aliases",
    "ListResourceTags": "tags",
    "GetKeyLastUsage": "last use",
    "ListGrants": "grants",
}
"""What each look-up is for, in the words of the alert."""

SILENT = "KMS didn't answer in time"
UNREACHED = "the look-up failed (KMS couldn't be reached)"
UNREADABLE = "the look-up failed"
THROTTLED = "KMS throttled the look-up"
REFUSED = "KMS refused the guard's role (AccessDenied)"


def all_lacking(reason: str) -> dict[str, str]:
    return {fact: reason for fact in FACTS.values()}


def sns_cells() -> Iterable[Cell]:
    """SNS's faults, on both topics and on one, while KMS works."""
    rows: list[tuple[str, Schedule, int | None]] = [
        *((fault, (fault,), 1 if fault in (Fault.NONE, Fault.SLOW) else None) for fault in Fault),
        ("throttles twice, then works", until_try(Fault.THROTTLED, 2), 1),
        ("throttles (429 Throttled) twice, then works", until_try(Fault.THROTTLED_429, 2), 1),
        ("hangs twice, then works", until_try(Fault.HANGS, 2), 1),
        ("resets once, then works", until_try(Fault.RESETS, 1), 1),
        ("answers 500 four times, then works", until_try(Fault.ERROR_500, 4), 2),
        ("denies twice, then works", until_try(Fault.DENIED, 2), 3),
    ]
    for row, schedule, arrives_on in rows:
        yield Cell(row, "SNS, both topics", {"*": schedule}, arrives_on=arrives_on)
        if row not in (Fault.REFUSES, Fault.UNREACHABLE):  # the topics share an endpoint
            for topic in TOPICS:
                yield Cell(row, f"SNS, only {topic}", {topic: schedule}, arrives_on=arrives_on)


def kms_cells() -> Iterable[Cell]:
    """KMS's faults, while SNS works."""
    reasons = {
        Fault.NONE: "",
        Fault.SLOW: "",
        Fault.THROTTLED: THROTTLED,
        Fault.THROTTLED_429: "the look-up failed (Throttled)",
        Fault.ERROR_500: "the look-up failed (KMSInternalException)",
        Fault.ERROR_503: "the look-up failed (ServiceUnavailableException)",
        Fault.BAD_GATEWAY: "the look-up failed (KMS's answer couldn't be read)",
        Fault.DENIED: REFUSED,
        Fault.GONE: "KMS has no such key, or no longer",
        Fault.BAD_SIGNATURE: "the look-up failed (InvalidSignatureException)",
        Fault.GARBAGE: UNREADABLE,
        Fault.EMPTY: UNREADABLE,
        Fault.HANGS: SILENT,
        Fault.STALLS: SILENT,
        Fault.RESETS: UNREADABLE,
        Fault.CLOSES: UNREACHED,
        Fault.TOO_SLOW: SILENT,
        Fault.REFUSES: UNREACHED,
        Fault.UNREACHABLE: SILENT,
    }
    for fault, reason in reasons.items():
        yield Cell(fault, "KMS", kms={"*": (fault,)}, lacks=all_lacking(reason) if reason else {})
    yield Cell("answers 500 once, then works", "KMS", kms={"*": until_try(Fault.ERROR_500, 1)})
    yield Cell(
        "throttles twice, then works", "KMS", kms={"*": until_try(Fault.THROTTLED, 2)}, lacks=all_lacking(THROTTLED)
    )
    for operation, fact in FACTS.items():
        yield Cell(f"denies {operation}", "KMS", kms={operation: (Fault.DENIED,)}, lacks={fact: REFUSED})
        yield Cell(f"hangs in {operation}", "KMS", kms={operation: (Fault.HANGS,)}, lacks={fact: SILENT})


def combined_cells() -> Iterable[Cell]:
    """Several things at once, and other settings."""
    hangs = {"*": (Fault.HANGS,)}
    patient = {"ENRICH_TIMEOUT_MS": "10000"}
    silent = all_lacking(SILENT)
    column = "Combined"
    yield Cell("KMS hangs, SNS hangs twice, then works", column, {"*": until_try(Fault.HANGS, 2)}, hangs, 1, silent)
    yield Cell("KMS hangs, SNS hangs", column, hangs, hangs, None, silent)
    yield Cell(
        "KMS denies, SNS answers 500 four times, then works",
        column,
        {"*": until_try(Fault.ERROR_500, 4)},
        {"*": (Fault.DENIED,)},
        2,
        all_lacking(REFUSED),
    )
    yield Cell(
        "alerts throttles, findings hangs",
        column,
        {"alerts": (Fault.THROTTLED,), "findings": (Fault.HANGS,)},
        arrives_on=None,
    )
    yield Cell(
        "alerts answers 500 four times, findings denies twice; then both work",
        column,
        {"alerts": until_try(Fault.ERROR_500, 4), "findings": until_try(Fault.DENIED, 2)},
        arrives_on=3,
    )
    for row, schedule, arrives_on in [
        (Fault.NONE, (Fault.NONE,), 1),
        (Fault.GONE, (Fault.GONE,), None),
        (Fault.HANGS, (Fault.HANGS,), None),
        ("denies twice, then works", until_try(Fault.DENIED, 2), 3),
    ]:
        yield Cell(f"with a chat topic that {row}", column, {"chat": schedule}, arrives_on=arrives_on, environment=CHAT)
    yield Cell("ENRICH_TIMEOUT_MS=10000, KMS hangs", column, {}, hangs, 1, silent, patient)
    yield Cell(
        "ENRICH_TIMEOUT_MS=0, KMS hangs",
        column,
        {},
        hangs,
        1,
        all_lacking("not looked up"),
        {"ENRICH_TIMEOUT_MS": "0"},
    )
    yield Cell(
        "function time-out of 3 s, SNS hangs",
        column,
        hangs,
        arrives_on=None,
        lacks=all_lacking("not looked up"),
        timeout=3.0,
    )
    yield Cell(
        "logging at TRACE, SNS refuses the signature and quotes the request",
        column,
        {"*": (Fault.BAD_SIGNATURE,)},
        arrives_on=None,
        environment={"AWS_LAMBDA_LOG_LEVEL": "TRACE"},
    )


def slow_cells() -> Iterable[Cell]:
    """What takes longer than all of the others together."""
    hangs = {"*": (Fault.HANGS,)}
    longest = {"ENRICH_TIMEOUT_MS": "10000"}
    yield Cell(
        "ENRICH_TIMEOUT_MS=10000, KMS hangs, SNS hangs", "Combined", hangs, hangs, None, all_lacking(SILENT), longest
    )


def random_cells(seed: int, count: int = 100) -> Iterable[Cell]:
    """Schedules drawn by lot: each topic and each look-up its own, some getting well, some never."""
    lot = random.Random(seed)
    single = [fault for fault in Fault if fault not in (Fault.REFUSES, Fault.UNREACHABLE)]

    def schedule() -> Schedule:
        ends = lot.choice((Fault.NONE, Fault.NONE, lot.choice(single)))
        return (*lot.choices(single, k=lot.randrange(6)), ends)

    for number in range(count):
        sns, kms = ({name: schedule() for name in names} for names in (TOPICS, OPERATIONS))
        yield Cell(f"schedule {number} of seed {seed}", "Random", sns, kms, foreseen=False)


def matrix(seed: int | None) -> list[Cell]:
    """The quick matrix; with a seed for the random schedules, the full one."""
    quick = [*combined_cells(), *sns_cells(), *kms_cells()]
    return quick if seed is None else [*slow_cells(), *quick, *random_cells(seed)]


@cache
def template_timeout() -> float:
    """The alert function's time-out, in seconds."""
    function = (ROOT / "template.yaml").read_text().partition("\n  AlertFunction:\n")[2]
    return float(re.findall(r"^      Timeout: (\d+)$", function, re.MULTILINE)[0])


async def run(cell: Cell) -> Result:
    """One event into one function, with the cell's faults."""
    async with rig(cell.sns, cell.kms, cell.timeout or template_timeout(), **cell.environment) as (function, sns, kms):
        delivery = await function.deliver(EVENT)
    return Result(
        cell,
        delivery,
        sns.messages,
        function.failure_queue,
        sns.tries | kms.tries,
        function.log,
        function.reports,
        function.credentials,
        sns.tokens | kms.tokens,
    )


async def run_all(cells: Iterable[Cell]) -> list[Result]:
    """Every cell, in their order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def in_turn(cell: Cell) -> Result:
        async with places:
            return await run(cell)

    return await asyncio.gather(*(in_turn(cell) for cell in cells))


def tables(results: Iterable[Result]) -> str:
    """The matrix in Markdown: a table for SNS, with a column for the topics concerned, and one for each other part."""
    found = {(result.cell.column, result.cell.row): str(result) for result in results}
    of_sns = [column for column in dict.fromkeys(column for column, _ in found) if column.startswith("SNS")]
    others = [column for column in dict.fromkeys(column for column, _ in found) if column not in of_sns]
    groups = {"SNS": of_sns} | {column: [column] for column in others}
    return "\n\n".join(_table(head, columns, found) for head, columns in groups.items())


def _table(head: str, columns: list[str], found: Mapping[tuple[str, str], str]) -> str:
    heads = [column.removeprefix("SNS, ") for column in columns] if len(columns) > 1 else ["what becomes of the alert"]
    lines = [[head, *heads], ["---"] * (1 + len(columns))]
    for row in dict.fromkeys(row for column, row in found if column in columns):
        lines.append([row, *(found.get((column, row), "–") for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="run the full matrix, with a hundred random schedules of this seed")
    seed = parser.parse_args().seed
    end_on_signals()
    results = asyncio.run(run_all(matrix(seed)))
    print(tables(results))
    lost = [result.cell for result in results if result.lost]
    print(f"\n{len(results)} cells; {len(lost)} alerts lost in silence.")
    return 1 if lost else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
