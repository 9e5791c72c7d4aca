"""Conversion of Python numbers to DynamoDB's decimal text and back.

In both modes, a whole number of at most 38 digits comes back as an int: a price of 20.00 comes back as 20. Any other
number comes back as a float in the mode "native", and as a `Decimal` in the mode "decimal".

Limits: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from dynamodb_outbox.dynamodb.items.unstorable import Unstorable

MAX_DIGITS: Final = 38
_BEYOND_DIGITS: Final = 10**MAX_DIGITS
MAX_EXPONENT: Final = 125
MIN_EXPONENT: Final = -130
_SMALLEST: Final = 1e-130
_BEYOND_LARGEST: Final = 1e126
_EXACT: Final = Context(prec=MAX_EXPONENT - MIN_EXPONENT, traps=[])
"""An explicit context: the application's default context may round to fewer digits, or raise."""


def number_text(value: float | Decimal) -> str:
    """Write a number as DynamoDB accepts it. Raises `Unstorable` beyond DynamoDB's digits or exponents."""
    if isinstance(value, int):
        if not -_BEYOND_DIGITS < value < _BEYOND_DIGITS:
            raise Unstorable(f"an integer may have {MAX_DIGITS} digits at most; store it as a string")
        return str(value)
    if isinstance(value, float) and _SMALLEST <= abs(value) < _BEYOND_LARGEST:
        # `repr` has the fewest digits that read back as the same float. A whole number comes back as an int,
        # which is equal only with all digits.
        return str(int(value)) if value.is_integer() and abs(value) < _BEYOND_DIGITS else float.__repr__(value)
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise Unstorable(f"DynamoDB cannot store {value} as a number; store None or a string")
    if not exact:
        return "0"
    if not MIN_EXPONENT <= exact.adjusted() <= MAX_EXPONENT:
        raise Unstorable(f"the magnitude of a number must be from 1e{MIN_EXPONENT} to 9.99e{MAX_EXPONENT}")
    sign, digits, exponent = exact.as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    if len(significant) > MAX_DIGITS:
        raise Unstorable(
            f"a number may have {MAX_DIGITS} significant digits, this one has {len(significant)}; round it first, or "
            "use Decimal(str(x))"
        )
    return f"{'-' if sign else ''}{significant}E{int(exponent) + len(digits) - len(significant)}"


def number_size(text: str) -> int:
    """Count the bytes of a number: one for two significant digits, one for the exponent, one for a negative sign.

    The result may be a byte too large, but never too small: DynamoDB pairs digits from the decimal point, so 12 and
    0.12 are one pair, 1.2 and 0.012 are two.
    """
    return len(text.strip("-0.")) // 2 + 2 + text.startswith("-")


def native_number(text: str) -> float:
    """Read a number as an int if it is whole, else as the float nearest to it.

    Numbers of other writers may exceed a float's precision. Rounding them keeps the event deliverable.
    """
    if len(text) <= MAX_DIGITS and text.lstrip("-").isdigit():
        return int(text)
    # Most stored floats have the form of `repr`. Decimal takes ten times as long, so only the others need it.
    if "." in text and repr(number := float(text)) == text and not number.is_integer():
        return number
    exact = decimal_number(text)
    return exact if isinstance(exact, int) else float(text)


def decimal_number(text: str) -> int | Decimal:
    """Read a number as an int if it is whole, else as a Decimal without trailing zeros."""
    if len(text) <= MAX_DIGITS and text.lstrip("-").isdigit():
        return int(text)
    try:
        exact = Decimal(text)
        if not exact.is_finite():
            raise ValueError(f"{text!r} is not a number that DynamoDB can store")
        if exact == exact.to_integral_value(context=_EXACT) and exact.adjusted() < MAX_DIGITS:
            return int(exact)
        return exact.normalize(_EXACT)
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is not a number") from error
