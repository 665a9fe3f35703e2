"""The matrix, run once with all its cells side by side, and a place for whatever the function says.

`FAULTS=full` runs the full matrix; its random schedules are those of `FAULTS_SEED` (1).
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from local.rig import Credentials, Function, Kms, Sns, rig
from local.rig.faults import Cell, Result, matrix, run_all, template_timeout
from loops import each

FULL = os.environ.get("FAULTS") == "full"
CELLS = matrix(int(os.environ.get("FAULTS_SEED", "1")) if FULL else None)

Test = Callable[[Function, Sns, Kms], Coroutine[Any, Any, None]]
Said = list[tuple[Credentials, list[tuple[str, str]], list[str]]]


@pytest.fixture(scope="session", autouse=True)
def binary(built: None) -> None:
    """The alert function as it is deployed."""


def each_cell(test: Callable[[Cell, Result], None]) -> Callable[[dict[str, Result]], None]:
    """A test of one cell as a test of all; `make faults` prints what became of each."""

    def test_of_all(results: dict[str, Result]) -> None:
        each(CELLS, lambda cell: test(cell, results[str(cell)]))

    test_of_all.__doc__ = test.__doc__
    return test_of_all


@pytest.fixture(scope="session")
def results(said: Said) -> dict[str, Result]:
    """What became of the cells, by their names."""
    results = asyncio.run(run_all(CELLS))
    said += [(result.credentials, result.log, result.reports) for result in results]
    return {str(result.cell): result for result in results}


@pytest.fixture(scope="session")
def said() -> Said:
    """What every function of this run wrote to its log and told the runtime API, with the credentials it held."""
    return []


@pytest.fixture
def with_rig(said: Said) -> Callable[..., None]:
    """Runs a test on a rig of its own, without faults to begin with."""

    def with_rig(test: Test, timeout: float | None = None, tls: bool = False, **environment: str) -> None:
        async def run() -> None:
            async with rig({}, {}, timeout or template_timeout(), tls, **environment) as (function, sns, kms):
                said.append((function.credentials, function.log, function.reports))
                async with asyncio.timeout(60):
                    await test(function, sns, kms)

        asyncio.run(run())

    return with_rig
