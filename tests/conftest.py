"""What the tests of several folders share: the functions, built once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from local import aws as local  # noqa: E402
from local.steps import step  # noqa: E402


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> None:
    """The functions, built with sam build; says so on the terminal, as it may take minutes."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        step("building the functions with sam build")
        local.check_prerequisites()
        local.build()
