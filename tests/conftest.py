"""What the tests of several folders share: the functions, built once."""

import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from local import build  # noqa: E402


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> None:
    """The functions as they ship; says so on the terminal if they have to be built, as that takes minutes."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        build.built()


class ByFile(LoadFileScheduling):
    """With several workers, a file's tests run on one, as they share what they set up.

    Those of tests/faults share one run of the matrix, and what was said in it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        return str(file.parent if file.parent.name == "faults" else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)
