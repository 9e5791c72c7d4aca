"""Finds out whether tasks begin within `create_task`.

See https://docs.python.org/3/library/asyncio-task.html#eager-task-factory.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_EAGER: Final[Any] = getattr(asyncio, "eager_task_factory", None)
"""The factory of asyncio, since Python 3.12. Those of `create_eager_task_factory` have the same code."""


def has_eager_tasks() -> bool:
    """Tell whether the tasks of the running loop are eager."""
    factory = asyncio.get_running_loop().get_task_factory()
    return factory is not None and _EAGER is not None and getattr(factory, "__code__", None) is _EAGER.__code__
