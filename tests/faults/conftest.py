"""The matrix, run once with all its cells side by side, and a place for whatever the function says.

`FAULTS=full` runs the full matrix; its random schedules are those of `FAULTS_SEED` (1).
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from local.rig.faults import Cell, Result, matrix, run_all, template_timeout  # noqa: E402
from local.rig import BINARY, Credentials, Function, Kms, Sns, rig  # noqa: E402

FULL = os.environ.get("FAULTS") == "full"
CELLS = matrix(int(os.environ.get("FAULTS_SEED", "1")) if FULL else None)

Test = Callable[[Function, Sns, Kms], Coroutine[Any, Any, None]]
Said = list[tuple[Credentials, list[tuple[str, str]], list[str]]]


@pytest.fixture(scope="session", autouse=True)
def binary() -> None:
    if not BINARY.exists():
        pytest.fail("target/release/alert isn't there: cargo build --release --bin alert")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        metafunc.parametrize("cell", CELLS, ids=str)


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, said: Said) -> dict[str, Result]:
    """What became of the cells that were asked for, by their names; of all, if none was."""
    asked = {
        str(item.callspec.params["cell"])
        for item in request.session.items
        if "cell" in getattr(item, "fixturenames", ())
    }
    results = asyncio.run(run_all(cell for cell in CELLS if str(cell) in asked or not asked))
    said += [(result.credentials, result.log, result.reports) for result in results]
    return {str(result.cell): result for result in results}


@pytest.fixture
def result(cell: Cell, results: dict[str, Result]) -> Result:
    return results[str(cell)]


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
