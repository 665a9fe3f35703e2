"""A ministack whose insides have moved is told at start, by the name of what moved."""

from types import ModuleType
from typing import Any

import pytest

from local.emulator.pinned import PinnedVersionChanged, replace, replace_entry, require


@pytest.fixture
def service() -> ModuleType:
    module = ModuleType("ministack.services.example")
    module.answer = lambda question: f"{question}!"
    module._table = {"Ask": module.answer}
    return module


def test_a_function_is_replaced_by_what_is_made_of_it(service: Any) -> None:
    replace(service, "answer", "question", lambda original: lambda question: original(question.upper()))
    replace_entry(service._table, "Ask", "_table", lambda original: lambda question: original(question) * 2)
    assert service.answer("a") == "A!"
    assert service._table["Ask"]("a") == "a!a!"


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda s: replace(s, "gone", "question", None), "example.gone is gone"),
        (lambda s: replace(s, "answer", "question more", None), r"example.answer takes \(question\), expected"),
        (lambda s: require(s, "_table gone"), "example.gone is gone"),
        (lambda s: replace_entry(s._table, "Tell", "_table", None), "_table has no 'Tell'"),
    ],
)
def test_what_moved_is_named(service: ModuleType, use: Any, told: str) -> None:
    with pytest.raises(PinnedVersionChanged, match=told):
        use(service)
