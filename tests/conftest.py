"""What the tests of several folders share: the functions, built once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from local import build  # noqa: E402


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> None:
    """The functions as they ship; says so on the terminal if they have to be built, as that takes minutes."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        build.built()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (-n 2 --dist loadgroup): a file's tests share what they set up, so one worker runs them.

    Those of tests/faults share one run of the matrix, and what was said in it.
    """
    for item in items:
        shared = item.path.parent if item.path.parent.name == "faults" else item.path
        item.add_marker(pytest.mark.xdist_group(str(shared)))
