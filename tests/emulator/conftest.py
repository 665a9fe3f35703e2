"""A local AWS without the guard, to test the local AWS itself."""

from collections.abc import Iterator

import pytest

from local import aws as local
from local.aws import LocalAws
from local.build import LOGS


@pytest.fixture(scope="session")
def bare() -> Iterator[LocalAws]:
    with LocalAws(retry_delay=0.1, log=LOGS / "aws-bare.log") as aws:
        yield aws
