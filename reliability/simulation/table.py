"""A simulated table and its indexes, which lag behind the table.

As in DynamoDB, an index has replicas: each row reaches each replica at a different time, and a query reads one replica.
So rows may be stale or missing, and may appear in one query and not in the next.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Protocol

from reliability.simulation.values import Item, item_size, number, units

Sort = tuple[int | Decimal, str]
"""The order of the rows of an index partition: by sort key, then by the key of the item."""


class IndexLag(Protocol):
    """How long a change takes until an index shows it."""

    def __call__(self, replica: int) -> float:
        """Draw the seconds for one change and one replica."""
        ...


def no_lag(replica: int) -> float:
    """Show every change at once."""
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSchema:
    """A global secondary index, as CreateTable defines it."""

    name: str
    partition_key: str
    sort_key: str
    projection: str

    def row_of(self, item: Item | None, key_name: str) -> Item | None:
        """Make the row of an item; None if the index does not hold it."""
        if item is None or self.partition_key not in item or self.sort_key not in item:
            return None
        if self.projection == "ALL":
            return item
        return {name: item[name] for name in (key_name, self.partition_key, self.sort_key)}

    def place_of(self, row: Item) -> tuple[str, str]:
        """Return the keys of a row, as they are written."""
        return row[self.partition_key]["S"], row[self.sort_key]["N"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexWrite:
    """The costs of a change in an index: units by partition."""

    index: str
    units: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A write that is about to take place; `new` is None for a deletion. A refused write has costs, too.

    The costs are calculated on demand.
    """

    table: Table
    key: str
    old: Item | None
    new: Item | None

    @cached_property
    def units(self) -> int:
        """The write units of the table."""
        return units(max((item_size(item) for item in (self.old, self.new) if item is not None), default=0))

    @cached_property
    def indexes(self) -> tuple[IndexWrite, ...]:
        """The costs in the indexes that it changes."""
        costs = (self._index_write(index.schema) for index in self.table.indexes.values())
        return tuple(cost for cost in costs if cost.units)

    def _index_write(self, schema: IndexSchema) -> IndexWrite:
        before, after = (schema.row_of(item, self.table.key_name) for item in (self.old, self.new))
        costs: defaultdict[str, int] = defaultdict(int)
        if before is not None and after is not None and schema.place_of(before) == schema.place_of(after):
            if before != after:
                costs[schema.place_of(after)[0]] = units(max(item_size(before), item_size(after)))
        else:
            # A row cannot move: it is deleted from one partition, and put into another.
            for row in (before, after):
                if row is not None:
                    costs[schema.place_of(row)[0]] += units(item_size(row))
        return IndexWrite(index=schema.name, units=costs)


class Replica:
    """One copy of an index, in the order of its sort keys."""

    def __init__(self) -> None:
        self._partitions: defaultdict[str, list[Sort]] = defaultdict(list)
        self._rows: dict[str, tuple[str, Sort, Item]] = {}
        self._waiting: list[tuple[float, int, str, Item | None]] = []
        self._order = itertools.count()
        self._latest: dict[str, float] = {}

    def schedule(self, key: str, row: Item | None, at: float) -> None:
        """Schedule a change, but not before an earlier change of the same item."""
        at = max(at, self._latest.get(key, at))
        self._latest[key] = at
        heapq.heappush(self._waiting, (at, next(self._order), key, row))

    def catch_up(self, now: float, schema: IndexSchema) -> None:
        """Apply the changes whose time has come."""
        while self._waiting and self._waiting[0][0] <= now:
            at, _, key, row = heapq.heappop(self._waiting)
            if self._latest.get(key) == at:
                del self._latest[key]
            self._put(key, row, schema)

    def _put(self, key: str, row: Item | None, schema: IndexSchema) -> None:
        before = self._rows.pop(key, None)
        if before is not None:
            partition = self._partitions[before[0]]
            del partition[bisect_left(partition, before[1])]
        if row is not None:
            name, sort = schema.place_of(row)
            place = (number(sort), key)
            insort(self._partitions[name], place)
            self._rows[key] = (name, place, row)

    def keys(self, partition: str) -> Sequence[Sort]:
        """List the positions of the rows of a partition, in order."""
        return self._partitions.get(partition, ())

    def row(self, key: str) -> Item:
        """Read a row that is there."""
        return self._rows[key][2]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexQuery:
    """The rows of an index partition that a query selects, optionally by a comparison of the sort key.

    `after` is the position of the last row of the previous page.
    """

    partition: str
    sign: str = ""
    bound: str = "0"
    after: Sort | None = None
    limit: int | None = None
    forward: bool = True


@dataclass(slots=True)
class Index:
    """An index: its schema, and its copies."""

    schema: IndexSchema
    replicas: list[Replica]

    def catch_up(self) -> None:
        """Apply all changes in every replica."""
        for replica in self.replicas:
            replica.catch_up(math.inf, self.schema)

    def page(self, query: IndexQuery, *, replica: int, now: float) -> tuple[list[Item], bool]:
        """Read rows of a partition from one replica, in order, and whether the limit was reached."""
        copy = self.replicas[replica % len(self.replicas)]
        copy.catch_up(now, self.schema)
        places = copy.keys(query.partition)
        first, last = _BOUNDS[query.sign](places, number(query.bound)) if query.sign else (0, len(places))
        if query.after is not None and query.forward:
            first = max(first, bisect_right(places, query.after))
        elif query.after is not None:
            last = min(last, bisect_left(places, query.after))
        if query.limit is not None and query.forward:
            last = min(last, first + query.limit)
        elif query.limit is not None:
            first = max(first, last - query.limit)
        chosen = places[first:last] if query.forward else places[first:last][::-1]
        return [copy.row(key) for _, key in chosen], len(chosen) == query.limit


_AFTER: Final = "\U0010ffff"
_BOUNDS: Final[Mapping[str, Callable[[Sequence[Sort], Any], tuple[int, int]]]] = {
    "<": lambda places, bound: (0, bisect_left(places, (bound, ""))),
    "<=": lambda places, bound: (0, bisect_right(places, (bound, _AFTER))),
    "=": lambda places, bound: (bisect_left(places, (bound, "")), bisect_right(places, (bound, _AFTER))),
    ">": lambda places, bound: (bisect_right(places, (bound, _AFTER)), len(places)),
    ">=": lambda places, bound: (bisect_left(places, (bound, "")), len(places)),
}


@dataclass(slots=True, kw_only=True)
class Table:
    """The items and their indexes. Items are never changed in place, so a reader keeps a consistent item."""

    name: str
    definition: Mapping[str, Any]
    key_name: str
    key_types: Mapping[str, str]
    indexes: Mapping[str, Index]
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    lag: IndexLag = no_lag
    time_to_live: str | None = None

    @classmethod
    def of(cls, definition: Mapping[str, Any], *, replicas: int) -> Table:
        """Make a table from the arguments of CreateTable."""
        types = {entry["AttributeName"]: entry["AttributeType"] for entry in definition["AttributeDefinitions"]}
        ((key,),) = [[entry["AttributeName"] for entry in definition["KeySchema"]]]
        indexes: dict[str, Index] = {}
        for index in definition.get("GlobalSecondaryIndexes", []):
            roles = {entry["KeyType"]: entry["AttributeName"] for entry in index["KeySchema"]}
            schema = IndexSchema(
                name=index["IndexName"],
                partition_key=roles["HASH"],
                sort_key=roles["RANGE"],
                projection=index["Projection"]["ProjectionType"],
            )
            indexes[schema.name] = Index(schema, [Replica() for _ in range(replicas)])
        return cls(name=definition["TableName"], definition=definition, key_name=key, key_types=types, indexes=indexes)

    def change(self, key: str, new: Item | None) -> Change:
        """Work out a write."""
        return Change(table=self, key=key, old=self.items.get(key), new=new)

    def refused(self, key: str) -> Change:
        """Compute a write whose condition is false: it changes nothing, but is billed."""
        old = self.items.get(key)
        return Change(table=self, key=key, old=old, new=old)

    def apply(self, change: Change, *, now: float) -> None:
        """Make a write."""
        if change.new is None:
            self.items.pop(change.key, None)
        else:
            self.items[change.key] = change.new
        for index in self.indexes.values():
            before = index.schema.row_of(change.old, self.key_name)
            after = index.schema.row_of(change.new, self.key_name)
            if before != after:
                for number_of, replica in enumerate(index.replicas):
                    replica.schedule(change.key, after, now + self.lag(number_of))
