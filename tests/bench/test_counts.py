"""The check of size and instructions: what it lets through, what it stops, and what it says when it can't compare."""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import counts  # noqa: E402

BASELINE: dict[str, Any] = {
    "rustc": "rustc 1.95.0",
    "architecture": "x86_64",
    "binaries": {"alert": {"stripped bytes": 5_000_000}},
    "instructions": {"start and first event": 7_000_000, "warm event": 5_000_000},
}


def found(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(BASELINE), **changes}


def test_same_and_a_little_more_pass() -> None:
    little = {"start and first event": 7_300_000, "warm event": 5_200_000}
    for now in (found(), found(instructions=little, binaries={"alert": {"stripped bytes": 5_140_000}})):
        too_much, said = counts.compare(BASELINE, now)
        assert not too_much and len([line for line in said if "tolerance" in line]) == 3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"binaries": {"alert": {"stripped bytes": 5_160_000}}}, "alert, stripped bytes: 5,160,000, +3.2%"),
        ({"instructions": {"start and first event": 7_000_000, "warm event": 5_260_000}}, "warm event: 5,260,000, +5.2%"),
        ({"instructions": {"start and first event": 8_000_000, "warm event": 5_000_000}}, "first event: 8,000,000, +14.3%"),
    ],
)
def test_more_than_the_tolerance_is_too_much(changes: dict[str, Any], what: str) -> None:
    (line,) = counts.compare(BASELINE, found(**changes))[0]
    assert what in line


def test_other_compiler_compares_sizes_only_and_says_so() -> None:
    now = found(rustc="rustc 1.96.0", instructions={"start and first event": 9_000_000, "warm event": 9_000_000})
    too_much, said = counts.compare(BASELINE, now)
    assert not too_much
    assert "INSTRUCTIONS NOT COMPARED: the baseline is of rustc 1.95.0, this is rustc 1.96.0" in said
    now["binaries"]["alert"]["stripped bytes"] = 6_000_000
    assert counts.compare(BASELINE, now)[0]


def test_without_valgrind_it_says_so() -> None:
    now = found()
    del now["instructions"]
    too_much, said = counts.compare(BASELINE, now)
    assert not too_much and any("there is no valgrind" in line for line in said)


def test_function_that_is_not_built_or_new_is_named() -> None:
    _, said = counts.compare(BASELINE, found(binaries={}))
    assert "ALERT NOT COMPARED: it isn't built" in said
    _, said = counts.compare({**BASELINE, "binaries": {}}, found())
    assert any("ALERT NOT COMPARED: it has no baseline" in line for line in said)


def test_committed_baseline_holds_what_is_compared() -> None:
    baseline = json.loads(counts.BASELINE.read_text())
    assert baseline.keys() == BASELINE.keys()
    counted = BASELINE["instructions"].keys()
    assert baseline["instructions"].keys() == counted | {f"{what}, TLS" for what in counted}
    assert "alert" in baseline["binaries"] and set(baseline["binaries"]) <= set(counts.SHIPPED)
