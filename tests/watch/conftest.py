import pytest


@pytest.fixture(scope="session", autouse=True)
def binary(built: None) -> None:
    """The watch function as it is deployed."""
