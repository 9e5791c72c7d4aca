"""Shortcuts through moto, which takes nearly all of the demo's time. Its answers stay the same."""

from __future__ import annotations

import contextlib
import functools
import gc
from typing import Any
from unittest.mock import patch


def take_shortcuts() -> None:
    """Make the moto of this process quicker; a release without these places stays as slow as it is."""
    with contextlib.suppress(ImportError, AttributeError, KeyError):
        _take_shortcuts()
    # What is imported by now stays: the collector need not look through it again and again.
    gc.freeze()
    gc.set_threshold(100_000)


def _take_shortcuts() -> None:
    from moto.core.serialize import XFormedAttributePicker  # noqa: PLC0415 - a release may lack it
    from moto.core.utils import method_names_from_class  # noqa: PLC0415 - likewise
    from moto.dynamodb.models.dynamo_type import DynamoType  # noqa: PLC0415 - likewise

    class DirectPicker(XFormedAttributePicker):
        """Takes members of a dict by their name, where moto tries a dozen spellings of every absent one."""

        def __call__(self, context: Any) -> Any:
            return context.obj.get(context.key) if isinstance(context.obj, dict) else super().__call__(context)

    slow_value: Any = vars(DynamoType)["cast_value"]

    def quick_value(value: Any) -> Any:
        return value.value if value.type == "S" else slow_value.fget(value)

    # Every claim returns an item, every query sorts all items by their keys, every call looks for its method.
    patch("moto.core.responses.XFormedAttributePicker", DirectPicker).start()
    patch.object(DynamoType, "cast_value", property(quick_value)).start()
    patch("moto.core.responses.method_names_from_class", functools.cache(method_names_from_class)).start()
