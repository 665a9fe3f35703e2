"""What the guard costs a month, computed from list prices and quantities: `python3 bench/cost.py` writes the tables of
docs/cost.md, and tests/bench/test_cost.py checks that they are up to date.

What an alert takes of processor time is measured; the rest are the template's own numbers.
"""

import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PRICES: dict[str, tuple[float, str, str]] = {
    "alarm": (0.10, "an alarm a month", "cloudwatch"),
    "metric hour": (0.30 / 720, "a custom metric, for each hour in which it is written; 0.30 a month of 30 days", "cloudwatch"),
    "dashboard": (3.00, "a dashboard a month, after the first three of an account", "cloudwatch"),
    "log": (0.50, "a GB of log ingested", "cloudwatch"),
    "e-mail": (2.00 / 100_000, "an e-mail by SNS", "sns"),
    "publish": (0.50 / 1_000_000, "a publish of up to 64 KB", "sns"),
    "event": (1.00 / 1_000_000, "an event sent to another account's or Region's bus; those of AWS services are free", "eventbridge"),
    "schedule": (1.00 / 1_000_000, "an invocation by Scheduler", "eventbridge"),
    "FIFO request": (0.50 / 1_000_000, "a request to a FIFO queue; an account's first million a month is free", "sqs"),
    "request": (0.20 / 1_000_000, "a request to a function", "lambda"),
    "duration": (0.000_013_333_4, "a GB-second on arm64", "lambda"),
    "key request": (0.03 / 10_000, "a request to KMS", "kms"),
}
"""USD, list prices of us-east-1, without any free tier."""
NOTED = "November 2026"

DAYS = 30
PLACES = 1_000 * 17
HOURS = 24 * DAYS
METRIC_HOURS = {
    "Heartbeat": HOURS,
    "ChecksFailed": HOURS,
    "KeysInDanger": DAYS,
    "KeysNotLookedAt": DAYS,
    "DaysLeft": DAYS,
    "KeysAtRisk": 0,
    "HeldBack": 0,
}
"""In how many hours of a month a quiet guard writes each of its custom metrics, those of `ALL` in `src/metrics.rs`: checks come
every hour, a sweep every day."""
WATCH = {"memory GB": 0.25, "sweep seconds": 10.0, "check seconds": 5.0}
"""The watch function, a sweep a day and a check every hour: more than ten times what they take on the local AWS."""

POLLERS = 5
"""How many times at once Lambda waits at a queue, 20 s each time."""

Row = tuple[str, float, str]
"""What, how many, at which price."""


COLD_ALERT = {"start": 6.5, "first event": 1.8}
"""Milliseconds of processor time with TLS, by the bench; an alert is always a cold start."""


def billed_seconds() -> float:
    """Of an alert: that time, stretched to what 128 MB get of a processor (a whole one is 1,769 MB), and 50 ms of waiting
    for KMS and SNS; up to the next tenth of a second."""
    return math.ceil((sum(COLD_ALERT.values()) / 1_000 * 1_769 / 128 + 0.05) * 10) / 10


def alert(count: int, readers: int = 1) -> list[Row]:
    """So many alerts, to so many e-mail addresses."""
    return [
        ("publishes, two an alert", 2 * count, "publish"),
        ("e-mails", readers * count, "e-mail"),
        ("look-ups, five an alert", 5 * count, "key request"),
        ("requests to the alert function", count, "request"),
        (f"its time: 0.125 GB, {billed_seconds():.1f} s each", count * 0.125 * billed_seconds(), "duration"),
        ("log, 2 KB an alert", count * 2e-6, "log"),
        ("the metric that counts them, for each hour in which it is written", min(count, HOURS), "metric hour"),
    ]


def in_template(kind: str) -> int:
    """How many resources of a kind of CloudWatch's the stack has by default: without those that a parameter adds."""
    template = (ROOT / "template.yaml").read_text()
    return len(re.findall(rf"^    Type: AWS::CloudWatch::{kind}\n(?!    Condition:)", template, re.M))


def stack() -> list[Row]:
    """What a deployed stack costs while nothing happens."""
    watched = WATCH["memory GB"] * DAYS * (WATCH["sweep seconds"] + 24 * WATCH["check seconds"])
    return [
        ("alarms", in_template("Alarm"), "alarm"),
        (f"{sum(hours > 0 for hours in METRIC_HOURS.values())} custom metrics, for the hours in which they are written",
         sum(METRIC_HOURS.values()), "metric hour"),
        (f"self-check queue: Lambda waits there {POLLERS} times at once, 20 s each", POLLERS * 3 * 60 * HOURS, "FIFO request"),
        ("watch function: calls by Scheduler, 25 a day", 25 * DAYS, "schedule"),
        ("watch function: requests", 25 * DAYS, "request"),
        (f"watch function: time, {WATCH['memory GB']} GB, a sweep of {WATCH['sweep seconds']:.0f} s a day and a check of "
         f"{WATCH['check seconds']:.0f} s an hour", watched, "duration"),
        ("watch function: requests to KMS, 100 keys a sweep, two each", 200 * DAYS, "key request"),
        ("watch function: log, 1 KB a call", 25 * DAYS * 1e-6, "log"),
    ]  # fmt: skip


SCENARIOS: dict[str, tuple[str, list[Row]]] = {
    "1 account, 1 Region": ("100 alerts a month to one address.", alert(100)),
    "1,000 accounts × 17 Regions": (
        "One hub, 17,000 spokes with `AlarmOnUndelivered=false`, two heartbeats a day from each, 10,000 alerts a month to "
        "one address. An alarm in every spoke adds 17,000 × 0.10 = 1,700 USD.",
        [
            ("heartbeats, bus to bus", PLACES * 2 * DAYS, "event"),
            ("heartbeats in the log, 500 bytes each", PLACES * 2 * DAYS * 500e-9, "log"),
            ("alerts' events, bus to bus", 10_000, "event"),
            (f"roster: the watch function, {WATCH['memory GB']} GB, 34 s a day", WATCH["memory GB"] * 34 * DAYS, "duration"),
            *alert(10_000),
        ],
    ),
    "`ReportLostKeyUse` at 10 million KMS calls a day": (
        "One account and Region, 1,000 uses of a lost key a month beside 100 other alerts. The rule matches calls that "
        "failed, so the function isn't called for the others.",
        alert(1_100),
    ),
}
"""What comes on top of a stack while nothing happens."""


def usd(amount: float) -> str:
    """To the cent, and what is less to its first two digits that aren't zero."""
    if amount >= 0.995 or not amount:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}"


def sum_of(rows: list[Row]) -> float:
    return sum(count * PRICES[price][0] for _, count, price in rows)


def number(count: float) -> str:
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.4g}"


def summary() -> list[str]:
    """A line for each scenario."""
    lines = ["| a month, without any free tier | USD | most of it |", "|---|---|---|"]
    for name, (_, rows) in SCENARIOS.items():
        whole = [*stack(), *rows]
        most = sorted(whole, key=lambda row: -row[1] * PRICES[row[2]][0])[:2]
        parts = "; ".join(f"{what} {usd(count * PRICES[price][0])}" for what, count, price in most)
        lines.append(f"| {name} | {sum_of(whole):,.2f} | {parts} |")
    return lines


def prices() -> list[str]:
    lines = ["| price | USD | |", "|---|---|---|"]
    for what, unit, page in PRICES.values():
        lines.append(f"| {unit} | {each(what)} | [{page}](https://aws.amazon.com/{page}/pricing/) |")
    return lines


def sums(rows: list[Row]) -> list[str]:
    """Each quantity times its price."""
    lines = ["| what | how many | USD each | USD a month |", "|---|---|---|---|"]
    for what, count, price in rows:
        cost = PRICES[price][0]
        lines.append(f"| {what} | {number(count)} | {each(cost)} | {usd(count * cost)} |")
    return [*lines, f"| **together** | | | **{usd(sum_of(rows))}** |"]


def each(price: float) -> str:
    return f"{price:.10f}".rstrip("0").rstrip(".")


def tables() -> str:
    """The summary, the prices, a stack by itself, and what each scenario adds to it."""
    lines = [*summary(), "", "## The prices", "", *prices(), "", "## A stack while nothing happens", "", *sums(stack())]
    for name, (what, rows) in SCENARIOS.items():
        lines += ["", f"## In addition: {name}", "", what, "", *sums(rows)]
    return "\n".join(lines)


def written(text: str) -> str:
    """The document with the tables between its marks."""
    mark = "<!-- by bench/cost.py -->"
    before, _, rest = text.partition(mark)
    _, _, after = rest.partition(mark)
    if not after:
        raise ValueError(f"there must be two lines {mark}")
    return f"{before}{mark}\n{tables()}\n{mark}{after}"


DOCUMENT = ROOT / "docs" / "cost.md"


def main() -> int:
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
