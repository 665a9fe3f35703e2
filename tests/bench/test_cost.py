"""The cost tables of docs/cost.md are what the stated prices and quantities give, and the quantities are the template's."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import cost  # noqa: E402


def test_tables_are_as_computed() -> None:
    text = cost.DOCUMENT.read_text()
    assert cost.written(text) == text, "python3 bench/cost.py writes it"


def test_one_account_by_hand() -> None:
    _, rows = cost.SCENARIOS["1 account, 1 Region"]
    # Two metrics all the time, three for an hour a day, one for an hour an alert.
    metrics = 2 * 0.30 + 3 * 0.30 / 24 + 100 / 720 * 0.30
    alarms, mails = cost.in_template("Alarm") * 0.10, 100 * 2 / 100_000
    # Five requests every 20 s.
    waiting = 5 * 3 * 60 * 24 * 30 * 0.50 / 1_000_000
    known = alarms + metrics + mails + waiting
    assert known < cost.sum_of([*cost.stack(), *rows]) < known + 0.10


def test_heartbeats_by_hand() -> None:
    _, rows = cost.SCENARIOS["1,000 accounts × 17 Regions"]
    (heartbeats,) = (count * cost.PRICES[price][0] for what, count, price in rows if what == "heartbeats, bus to bus")
    assert heartbeats == pytest.approx(1.02)


def test_two_heartbeats_a_day() -> None:
    assert "rate(12 hours)" in (ROOT / "stackset" / "spoke.yaml").read_text()


def test_what_a_parameter_adds_is_not_in_the_sums() -> None:
    template = (ROOT / "template.yaml").read_text()
    assert cost.in_template("Alarm") == template.count("Type: AWS::CloudWatch::Alarm\n") - 1 >= 6
    assert (cost.in_template("Dashboard"), template.count("Type: AWS::CloudWatch::Dashboard\n")) == (0, 1)
