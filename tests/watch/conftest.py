import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from local.sweeping import BINARY  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def binary() -> None:
    if not BINARY.exists():
        pytest.fail("target/release/watch isn't there: cargo build --release --features watch --bin watch")
