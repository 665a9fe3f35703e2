"""`make load`: thousands of mixed signals through the alert function as it ships, and an account of every alert.

A ransom script over a whole account's keys, replayed deliveries, deletions that two sources announce, noise that passes
the rules, failed calls and events nobody can read, in a seeded order, through several instances of the function. What
has to come of each is worked out here, without the function's code.
"""

import argparse
import asyncio
import csv
import json
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Any

from .faults import template_timeout
from . import ROOT, TOPICS, Function, Kms, Sns, report
from ..steps import end_on_signals

EVENTS = ROOT / "events"
NAMESPACE = uuid.UUID("1c2f6a52-8d0b-5c57-9a3e-5b1f4f0e7d21")
KEYS = 500
LARGE = 200_000
"""Bytes of padding in a large signal; EventBridge takes 256 KB."""
WARM_AFTER = 0.2
"""The part of the signals after which memory should no longer grow."""
MAY_GROW = 1024
"""KiB by which it may all the same."""


PUTS_A_KEY_AT_RISK = {"key-deletion-scheduled", "key-disabled", "key-policy-lockout"}
"""The detections of the burst that the mass-event alarm counts."""


@dataclass(frozen=True)
class Signal:
    """An event, and what has to become of it."""

    event: bytes
    detection: str | None = None
    uid: str | None = None


class Mixer:
    """Makes signals from the sample events, each with ids of its own."""

    def __init__(self, seed: int) -> None:
        self.lot = random.Random(seed)
        with (EVENTS / "verdicts.tsv").open() as table:
            self.verdicts = {
                row["file"]: row for row in csv.DictReader(table, delimiter="\t") if "/" not in row["file"]
            }

    def id(self) -> str:
        return str(uuid.UUID(int=self.lot.getrandbits(128), version=4))

    def signal(self, file: str, key: str = "", padding: int = 0) -> Signal:
        """The sample event with new ids, about this key."""
        event: dict[str, Any] = json.loads((EVENTS / file).read_text())
        record: Any = event.get("detail")
        event["id"] = identity = self.id()
        if isinstance(record, dict) and "eventID" in record:
            record |= {"eventID": (identity := self.id()), "requestID": self.id()}
        if padding:
            record["additionalEventData"] = {"padding": "x" * padding}
        detection = self.verdicts[file]["default"]
        text = json.dumps(event)
        if key:
            text = text.replace(sample_key(event), key)
        if detection == "-":
            return Signal(text.encode())
        if detection == "unreadable-signal":
            identity = event["id"]
        name = (
            f"key\n{detection}\narn:aws:kms:eu-west-1:111122223333:key/{key}\n{event['time'][:10]}"
            if detection == "key-deleted"
            else f"event\n{detection}\n{identity}"
        )
        return Signal(text.encode(), detection, str(uuid.uuid5(NAMESPACE, name)))

    def files(self, wanted: Callable[[str, dict[str, str]], bool]) -> list[str]:
        return [file for file, row in self.verdicts.items() if wanted(file, row)]

    def burst(self, count: int) -> list[Signal]:
        """So many signals, in the order of their arrival."""
        script = ("policy-account-dropped.json", "key-disabled.json", "deletion-scheduled.json")
        losses = [self.signal(file, key) for key in (self.id() for _ in range(KEYS)) for file in script]
        gone = [self.id() for _ in range(KEYS // 5)]
        losses += [self.signal(file, key) for key in gone for file in ("key-deleted.json", "key-deleted-native.json")]
        losses += [self.signal("deletion-scheduled.json", self.id(), LARGE) for _ in range(50)]
        unreadable = self.files(lambda _, row: row["default"] == "unreadable-signal" and row["rule"] != "no")
        noise = self.files(lambda _, row: row["default"] == "-" and row["rule"] != "no")
        failed = self.files(lambda file, row: row["default"] == "-" and file.startswith(("failed-", "denied-")))
        signals = [*losses, *(self.signal(self.lot.choice(unreadable)) for _ in range(450))]
        rest = count - len(signals)
        if rest < 0:
            raise SystemExit(f"the ransom script alone is {len(signals)} signals; --signals takes that or more")
        signals += self.lot.choices(signals, k=rest // 3)  # delivered again, now and then more than once
        others = cycle([*noise, *failed])
        signals += [self.signal(next(others)) for _ in range(rest - rest // 3)]
        self.lot.shuffle(signals)
        return signals


def sample_key(event: dict[str, Any]) -> str:
    """The id of the key that a sample event is about."""
    arns = [resource["ARN"] for resource in event["detail"].get("resources", [])] or event["resources"]
    return next(arn for arn in arns if ":key/" in arn).rpartition("/")[2]


@dataclass
class Instance:
    """One process, with what is measured of it."""

    function: Function
    seconds: list[float] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)
    """KiB of resident memory, with the part of all signals that was done by then."""
    outcomes: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    """How often a signal with this detection ended so."""
    failed: int = 0

    async def work(self, signals: Iterator[tuple[float, Signal]]) -> None:
        for done, signal in signals:
            *failed, last = (await self.function.deliver(signal.event)).attempts
            self.failed += len(failed)
            self.seconds.append(last.seconds)
            self.outcomes[signal.detection, last.said.get("outcome", last.ended)] += 1
            self.rss.append((done, self.memory("VmRSS")))

    @property
    def warm(self) -> int:
        """The memory that should be enough from now on."""
        return next((rss for done, rss in self.rss if done >= WARM_AFTER), self.rss[0][1])

    def counted(self) -> int:
        """How many keys at risk it counted, in the metrics that CloudWatch takes from its log."""
        metrics = (json.loads(line) for stream, line in self.function.log if stream == "stdout" and '"_aws"' in line)
        return sum(entry.get("KeysAtRisk", 0) for entry in metrics)

    def memory(self, name: str) -> int:
        """A figure of /proc/PID/status, in KiB."""
        status = Path(f"/proc/{self.function.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


@dataclass(frozen=True)
class Run:
    """What was sent and what came of it."""

    signals: list[Signal]
    sns: Sns
    pool: list[Instance]
    seconds: float
    peaks: list[int]
    """KiB, of each instance."""

    @property
    def expected(self) -> Counter[tuple[str, str]]:
        """Every alert by its uid and detection, and how often it has to be at each topic."""
        return Counter((s.uid, s.detection) for s in self.signals if s.uid and s.detection)

    @property
    def at_risk(self) -> int:
        """How many keys at risk were counted for the mass-event alarm."""
        return sum(instance.counted() for instance in self.pool)

    def mismatches(self) -> Iterator[str]:
        """What isn't as it has to be."""
        for topic in TOPICS:
            found = Counter((message.uid, message.attributes["detection"]) for message in self.sns.held(topic))
            for alerts, what in ((self.expected - found, "lost"), (found - self.expected, "too many")):
                yield from (f"{topic}: {n} × {uid} ({detection}) {what}" for (uid, detection), n in alerts.items())
        for (detection, outcome), n in sum((instance.outcomes for instance in self.pool), Counter()).items():
            if outcome != ("published" if detection else "silent"):
                yield f"{n} × {detection or 'nothing to report'} ended as {outcome}"
        at_risk = sum(n for (_, detection), n in self.expected.items() if detection in PUTS_A_KEY_AT_RISK)
        if self.at_risk != at_risk:
            yield f"{self.at_risk} keys were counted as at risk for the mass-event alarm, and {at_risk} are"
        for number, instance in enumerate(self.pool, 1):
            if instance.failed:
                yield f"{instance.failed} invocations of instance {number} failed, and nothing stood in their way"
            if instance.rss[-1][1] > instance.warm + MAY_GROW:
                yield f"instance {number} grew from {instance.warm} to {instance.rss[-1][1]} KiB"

    def figures(self) -> Iterator[tuple[str, object]]:
        """What to print."""
        yield "signals", len(self.signals)
        yield from Counter(signal.detection or "nothing to report" for signal in self.signals).most_common()
        yield "alerts expected, with their repeats", self.expected.total()
        yield "of these distinct", len(self.expected)
        for topic in TOPICS:
            yield f"at the {topic} topic", len(self.sns.held(topic))
        yield "keys at risk, as counted for the mass-event alarm", self.at_risk
        yield "seconds", f"{self.seconds:.1f}"
        yield "signals a second", f"{len(self.signals) / self.seconds:.0f}"
        milliseconds = [1000 * seconds for instance in self.pool for seconds in instance.seconds]
        percentiles = quantiles(milliseconds, n=100)
        yield (
            "ms a signal, p50 / p99 / most",
            f"{percentiles[49]:.1f} / {percentiles[98]:.1f} / {max(milliseconds):.1f}",
        )
        for number, (instance, peak) in enumerate(zip(self.pool, self.peaks, strict=True), 1):
            resident = f"{instance.rss[0][1]} / {instance.warm} / {instance.rss[-1][1]} / {peak}"
            yield f"instance {number}, KiB resident: first / warm / end / peak", resident


async def load(signals: list[Signal], instances: int) -> Run:
    """Hand the signals to so many instances."""
    async with Sns() as sns, Kms() as kms, AsyncExitStack() as running:
        functions = [Function(sns, kms, template_timeout()) for _ in range(instances)]
        pool = [Instance(await running.enter_async_context(function)) for function in functions]
        turns = ((number / len(signals), signal) for number, signal in enumerate(signals))
        began = time.monotonic()
        await asyncio.gather(*(instance.work(turns) for instance in pool))
        seconds = time.monotonic() - began
        return Run(signals, sns, pool, seconds, [instance.memory("VmHWM") for instance in pool])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make load", description=__doc__.partition("\n")[0])
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end_on_signals()
    run = asyncio.run(load(Mixer(options.seed).burst(options.signals), options.instances))
    return report("load", run.figures(), list(run.mismatches()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
