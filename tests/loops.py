"""Matrices as loops: one test walks through all the cases, and names every case that fails."""

from collections.abc import Callable, Iterable
from typing import Any


def each(cases: Iterable[Any], test: Callable[[Any], None], name: Callable[[Any], str] = str) -> None:
    """Run the test for every case; it fails at the end, with all that failed."""
    failures, count = [], 0
    for case in cases:
        count += 1
        try:
            test(case)
        except Exception as failure:
            failures.append(f"{name(case)}: {type(failure).__name__}: {failure}")
    assert count, "no case at all"
    assert not failures, f"{len(failures)} of {count} cases:\n\n" + "\n\n".join(failures)
