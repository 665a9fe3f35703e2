"""Replacing and using functions of ministack, whose insides may change with any release.

ministack is pinned in requirements.txt. `replace` checks that the function is there with the parameters
known from that version, `require` that it is there, so that a new version fails at start with the name of what
changed, and not later with an event that nobody receives.
"""

import functools
import importlib.metadata
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

MINISTACK = "1.5.33"


class PinnedVersionChanged(RuntimeError):
    """The installed ministack isn't the one that local/ was written for."""


def replace(
    module: ModuleType, name: str, parameters: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace `module.name`, which takes `parameters` (names, blank-separated), by `make(the original)`."""
    original = getattr(module, name, None)
    where = f"{module.__name__}.{name}"
    if not callable(original):
        raise PinnedVersionChanged(f"{where} is gone; {_advice()}")
    found = " ".join(inspect.signature(original).parameters)
    if found != parameters:
        raise PinnedVersionChanged(f"{where} takes ({found}), expected ({parameters}); {_advice()}")
    setattr(module, name, functools.wraps(original)(make(original)))


def require(module: ModuleType, names: str) -> None:
    """Check that functions and stores (names, blank-separated), which are used as they are, are there."""
    for name in names.split():
        if not hasattr(module, name):
            raise PinnedVersionChanged(f"{module.__name__}.{name} is gone; {_advice()}")


def replace_entry(
    table: dict[str, Any], name: str, where: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace the function `table[name]` by `make(the original)`; `where` says which table it is."""
    if not callable(table.get(name)):
        raise PinnedVersionChanged(f"{where} has no {name!r}; {_advice()}")
    table[name] = make(table[name])


def _advice() -> str:
    installed = importlib.metadata.version("ministack")
    return f"local/emulator/ is written for ministack {MINISTACK}, installed is {installed}: see local/emulator/pinned.py"
