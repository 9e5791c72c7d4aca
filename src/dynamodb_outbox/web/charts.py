"""Charts as SVG, made on the server: no script draws, and colours come from the style sheet by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 600
HEIGHT: Final = 90


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one colour. `kind` is the class in the style sheet."""

    name: str
    kind: str
    values: Sequence[float]


def bars(title: str, series: Sequence[Series]) -> Markup:
    """Draw stacked bars, one for each index of the values. The title says for screen readers what they show.

    If all values are 0, a sentence says so instead.
    """
    count = max((len(one.values) for one in series), default=0)
    sums = [sum(one.values[index] for one in series) for index in range(count)]
    top = max(sums, default=0) or 1
    step = WIDTH / max(count, 1)
    shapes: list[str] = []
    for index in range(count):
        base = float(HEIGHT)
        for one in series:
            height = HEIGHT * one.values[index] / top
            if height > 0:
                base -= height
                shapes.append(_rectangle(index * step, base, max(step - 1, 0.5), height, one.kind))
    counts = [(one, f"{sum(one.values):,g} {one.name}") for one in series]
    highest = f"The highest bar is {top:,g}."
    summary = f"{'; '.join(text for _, text in counts)}. {highest}"
    key = Markup("").join(Markup('<span class="key {}">{}</span> ').format(one.kind, text) for one, text in counts)
    return _chart(title, summary, shapes, caption=key + highest)


def line(title: str, values: Sequence[float], *, unit: str = "") -> Markup:
    """Draw one line with the area below it, or write a sentence if all values are 0."""
    values = [*values, *values] if len(values) == 1 else values  # a level line
    top = max(values, default=0) or 1
    step = WIDTH / max(len(values) - 1, 1)
    points = [f"{index * step:.1f},{HEIGHT - HEIGHT * value / top:.1f}" for index, value in enumerate(values)]
    if not any(values):
        return _chart(title, "", [])
    right = f"{(len(values) - 1) * step:.1f}"
    shapes = [
        f'<polygon class="area" points="0,{HEIGHT} {" ".join(points)} {right},{HEIGHT}"/>',
        f'<polyline class="line" points="{" ".join(points)}"/>',
    ]
    return _chart(title, f"Now {values[-1]:,g}{unit}, at most {max(values):,g}{unit}.", shapes)


def _rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{escape(kind)}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _chart(title: str, summary: str, shapes: Sequence[str], *, caption: Markup | None = None) -> Markup:
    """Draw shapes. The caption is the summary, unless it needs the colours of the shapes."""
    # Markup of text that was escaped above: the only strings of others are the title and the names of the series.
    if not shapes:
        return Markup('<p class="caption">{}: none so far.</p>').format(title)
    inner = "".join(shapes)
    return Markup(  # noqa: S704
        f'<svg class="chart" role="img" aria-label="{escape(title)}. {escape(summary)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">{inner}</svg>'
        f'<p class="caption">{caption or escape(summary)}</p>'
    )
