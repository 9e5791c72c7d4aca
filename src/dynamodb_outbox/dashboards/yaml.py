"""Writes plain data as YAML that people can read. Scalars are written as JSON, which is valid YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_RESERVED: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def as_yaml(data: Any) -> str:
    """Write mappings, sequences and scalars as YAML in blocks."""
    return "\n".join(_lines(data, "")) + "\n"


def _lines(data: Any, indent: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _entry(f"{indent}{_scalar(key)}:", value, indent)
    else:
        for value in data:
            if _is_block(value):
                first, *rest = _lines(value, f"{indent}  ")
                yield f"{indent}- {first.strip()}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(value)}"


def _entry(key: str, value: Any, indent: str) -> Iterator[str]:
    if _is_block(value):
        yield key
        yield from _lines(value, f"{indent}  ")
    elif isinstance(value, str) and "\n" in value:
        yield f"{key} |-"
        yield from (f"{indent}  {line}".rstrip() for line in value.split("\n"))
    else:
        yield f"{key} {_scalar(value)}"


def _is_block(value: Any) -> bool:
    return bool(value) and isinstance(value, (Mapping, Sequence)) and not isinstance(value, str)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)
