import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "template"))


def pytest_collection_modifyitems(items):
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if here and not (Path(__file__).parent / "node_modules").exists():
        raise pytest.UsageError("tests/iam needs Node.js and its packages: make permissions installs them")
