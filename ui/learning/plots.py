"""Plots as inline SVG, in the page's colours and readable without them. Pure functions; no library, no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, WIDE, HEIGHT = 440, 620, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 40
TICKS = 4
TABLE_ROWS = 60
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line, or dots where `dots`. `css` names its colour: learning, frozen, warn or soft."""

    name: str
    points: Sequence[Point]
    css: str = "learning"
    dots: bool = False
    steps: bool = False  # a value holds until the next point


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def plain(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 10 else f"{value:.2g}"


def line_plot(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    unit: Callable[[float], str] = percent,
    y_most: float | None = None,
    x_most: float | None = None,
    table: bool = False,
    width: int = WIDTH,
) -> str:
    """A figure with its legend. A screen reader hears the latest values; `table` adds all of them to unfold."""
    points = [point for one in series for point in one.points]
    x_end = max([x for x, _ in points] + [x_most or 1.0])
    y_end = y_most if y_most is not None else _round_up(max([y for _, y in points] + [0.0]))

    def at(point: Point) -> str:
        x = LEFT + (width - LEFT - RIGHT) * point[0] / (x_end or 1)
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(point[1], y_end) / (y_end or 1)
        return f"{x:.1f},{y:.1f}"

    said = "; ".join(
        f"{one.name}: {unit(one.points[-1][1])}" if one.points else f"{one.name}: nothing yet" for one in series
    )
    drawn = "".join(_grid(at, x_end, y_end, unit, width)) + "".join(_line(one, at) for one in series)
    legend = "".join(
        f'<li class="{escape(one.css)}"><i></i>{escape(one.name)} <b>{unit(one.points[-1][1]) if one.points else "–"}</b></li>'
        for one in series
    )
    return (
        f'<figure class="plot{" wide" if width > WIDTH else ""}"><figcaption><b>{escape(title)}</b><ul>{legend}</ul></figcaption>'
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(f"{title}. Now: {said}.")}">{drawn}'
        f'<text class="axis" x="{width - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_label)}</text></svg>'
        f"{_table(series, x_label, unit) if table and points else ''}</figure>"
    )


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    size = 10.0 ** len(str(int(value))) if value >= 1 else 1.0
    while size / 10 >= value:
        size /= 10
    return next(step * size / 10 for step in (1, 2, 5, 10) if step * size / 10 >= value)


def _grid(
    at: Callable[[Point], str], x_end: float, y_end: float, unit: Callable[[float], str], width: int
) -> list[str]:
    out = []
    for i in range(TICKS + 1):
        value = y_end * i / TICKS
        _, y = at((0, value)).split(",")
        out.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}"/>')
        out.append(
            f'<text class="axis" x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{escape(unit(value))}</text>'
        )
    for i in range(1, TICKS) if x_end >= TICKS else ():
        value = round(x_end * i / TICKS)
        x, _ = at((value, 0)).split(",")
        out.append(f'<text class="axis" x="{x}" y="{HEIGHT - 22}" text-anchor="middle">{value}</text>')
    return out


def _line(one: Series, at: Callable[[Point], str]) -> str:
    if not one.points:
        return ""
    if one.dots:
        spots = (at(point).split(",") for point in one.points)
        return "".join(f'<circle class="{escape(one.css)}" cx="{x}" cy="{y}" r="3.4"/>' for x, y in spots)
    path = list(one.points)
    if one.steps:
        path = [path[0], *(p for a, b in zip(path, path[1:], strict=False) for p in ((b[0], a[1]), b))]
    x, y = at(path[-1]).split(",")
    return (
        f'<polyline class="{escape(one.css)}" points="{" ".join(map(at, path))}"/>'
        f'<circle class="{escape(one.css)}" cx="{x}" cy="{y}" r="3.4"/>'
    )


def _table(series: Sequence[Series], x_label: str, unit: Callable[[float], str]) -> str:
    """The latest values of every series, newest first."""
    xs = sorted({x for one in series for x, _ in one.points}, reverse=True)[:TABLE_ROWS]
    known = [dict(one.points) for one in series]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in (x_label, *(one.name for one in series)))
    rows = ""
    for x in xs:
        cells = "".join(f"<td>{unit(values[x]) if x in values else ''}</td>" for values in known)
        rows += f"<tr><td>{plain(x)}</td>{cells}</tr>"
    return f"<details><summary>As a table</summary><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
