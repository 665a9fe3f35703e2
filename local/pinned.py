"""Replacing functions of ministack, whose insides may change with any release.

ministack is pinned in requirements.txt. `replace` checks that the function is there with the parameters
known from that version, so that a new version fails at start with the name of what changed, and not later
with an event that nobody receives.
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
    installed = importlib.metadata.version("ministack")
    advice = f"local/ is written for ministack {MINISTACK}, installed is {installed}: see local/pinned.py"
    if not callable(original):
        raise PinnedVersionChanged(f"{where} is gone; {advice}")
    found = " ".join(inspect.signature(original).parameters)
    if found != parameters:
        raise PinnedVersionChanged(f"{where} takes ({found}), expected ({parameters}); {advice}")
    setattr(module, name, functools.wraps(original)(make(original)))
