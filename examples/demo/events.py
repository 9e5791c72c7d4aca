"""The events of the demo: those of a small shop, or those of a JSON Lines file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Final

from dynamodb_outbox import Event
from examples.demo.plan import DemoError

Payload = dict[str, Any]

SEED: Final = 20_240_229
NAMES: Final = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Radia", "Donald", "Frances", "Niklaus", "Jean")
CITIES: Final = ("Lisbon", "Zürich", "Kraków", "Montréal", "Osaka", "Nairobi", "Malmö")
GOODS: Final = (("teapot", 2490), ("notebook", 650), ("desk lamp", 5900), ("bicycle bell", 1290), ("umbrella", 1999))


def make_events(count: int) -> list[Event]:
    """Make what a shop tells of a day; the same types and payloads every time, with new ids."""
    random = Random(SEED)
    makers = random.choices([maker for maker, _ in MAKERS], [weight for _, weight in MAKERS], k=count)
    return [Event(_type_of(maker), maker(random)) for maker in makers]


def read_events(path: Path) -> list[Event]:
    """Read a file of `{"type": ..., "payload": ...}`, one to a line. Raises `DemoError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DemoError(f"the events cannot be read: {error}") from error
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                entry = json.loads(line)
                events.append(Event(entry["type"], entry["payload"]))
            except Exception as error:
                raise DemoError(
                    f'{path}, line {number}: no event of the form {{"type": "...", "payload": ...}} ({error!r})'
                ) from error
    if not events:
        raise DemoError(f"{path} holds no events")
    return events


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Write events for the other processes."""
    lines = [json.dumps({"type": event.type, "payload": event.payload}) for event in events]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _user_created(random: Random) -> Payload:
    name = random.choice(NAMES)
    return {
        "user_id": _id(random, "usr"),
        "name": name,
        "email": f"{name.lower()}{random.randrange(1000)}@example.org",
        "city": random.choice(CITIES),
        "newsletter": random.choice([True, False, False]),
    }


def _order_placed(random: Random) -> Payload:
    cart = [(name, price, random.randint(1, 4)) for name, price in random.sample(GOODS, random.choice([1, 1, 2, 3]))]
    return {
        "order_id": _id(random, "ord"),
        "user_id": _id(random, "usr"),
        "currency": "EUR",
        "lines": [{"name": name, "quantity": quantity, "price_cents": price} for name, price, quantity in cart],
        "total_cents": sum(price * quantity for _, price, quantity in cart),
        "ship_to": {"city": random.choice(CITIES), "street": f"{random.randint(1, 200)} Harbour Road"},
        "gift_note": random.choice([None, "Happy birthday!", "Gefeliciteerd!", "お誕生日おめでとう"]),
    }


def _invoice_paid(random: Random) -> Payload:
    return {
        "invoice_id": _id(random, "inv"),
        "order_id": _id(random, "ord"),
        "amount_cents": random.randint(650, 40_000),
        "method": random.choice(["card", "sepa", "paypal"]),
        "vat_rate": random.choice([0.07, 0.19, 0.23]),
    }


def _shipment_dispatched(random: Random) -> Payload:
    return {
        "shipment_id": _id(random, "shp"),
        "order_id": _id(random, "ord"),
        "carrier": random.choice(["DHL", "PostNL", "UPS"]),
        "parcels": [{"weight_grams": random.randint(80, 9000)} for _ in range(random.randint(1, 3))],
        "express": random.choice([True, False, False, False]),
    }


def _order_cancelled(random: Random) -> Payload:
    reason = random.choice(["changed my mind", "found it cheaper", "ordered twice"])
    return {"order_id": _id(random, "ord"), "reason": reason, "refund_cents": random.randint(0, 40_000)}


def _stock_low(random: Random) -> Payload:
    name, _ = random.choice(GOODS)
    return {"sku": f"SKU-{random.randrange(10_000):04}", "name": name, "left": random.randint(0, 9)}


MAKERS: Final[list[tuple[Callable[[Random], Payload], int]]] = [
    (_user_created, 20),
    (_order_placed, 30),
    (_invoice_paid, 25),
    (_shipment_dispatched, 15),
    (_order_cancelled, 5),
    (_stock_low, 5),
]


def _type_of(maker: Callable[[Random], Payload]) -> str:
    return maker.__name__.removeprefix("_").replace("_", ".", 1)


def _id(random: Random, kind: str) -> str:
    return f"{kind}_{random.getrandbits(48):012x}"
