"""One service's timeline as an inline SVG: shares of the regions over time. No I/O.

Each column is a stretch of time, as short as the number of requests allows. It shows the shares
of the requests that ended in it, stacked by region, with failed requests on top in red and hatched;
a column without requests is left empty. Because one failure among a hundred is a hair's breadth, a
lane below the columns repeats them as full red marks. Moves are vertical lines with a label.

The downside of shares: they hide the rate. The tooltip of each column has the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from loadtest.record import FAILED

WIDTH = 1100
LEFT, RIGHT = 54, 12
PLOT = WIDTH - LEFT - RIGHT
BARS = 96
"""Height of the stacked columns."""
LANE = 10
"""Height of the lane of failures."""
LABEL_ROW = 17
WRITE_LANE = 13
"""Height of each lane of stretches below the failures, with the space above it."""
CHARACTER = 7.4
"""Estimated width of a label's character, on the generous side."""
STEPS = (0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
MAX_COLUMNS = 240
PER_COLUMN = 4
"""Requests that a column should have on average, so that an empty one means something."""
MAX_TICKS = 12
MAX_STRETCHES = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line. `end_at` is where its shaded stretch ends (the first new answer), if any."""

    at: float
    label: str
    own: bool
    """True when the event concerns this service."""
    end_at: float | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """Time from left to right; seconds since the epoch."""

    start: float
    end: float
    requests: int = 0
    """Of the service that has the fewest; 0: unknown, then no column is shorter than a second."""

    @property
    def seconds(self) -> float:
        return max(self.end - self.start, 1e-3)

    @property
    def column(self) -> float:
        """Seconds per column."""
        finest = PER_COLUMN * self.seconds / self.requests if self.requests else 1.0
        return _step(self.seconds, MAX_COLUMNS, finest)

    def x(self, at: float) -> float:
        return LEFT + PLOT * min(max((at - self.start) / self.seconds, 0.0), 1.0)


Columns = Mapping[int, Mapping[str, int]]
"""Column number → region or FAILED → count."""


def columns(timeline: Iterable[Mapping[str, Any]], service: str, axis: Axis) -> Columns:
    """Sums up the tenths of a second of one service."""
    counts: dict[int, dict[str, int]] = {}
    for entry in timeline:
        if entry["service"] != service:
            continue
        # By the middle of the tenth, so that rounding does not push it over an edge.
        number = max(0, int((entry["at"] + 0.05 - axis.start) / axis.column))
        column = counts.setdefault(number, {})
        for region, numbers in entry["regions"].items():
            column[region] = column.get(region, 0) + numbers["count"]
        if "failed" in entry:
            column[FAILED] = column.get(FAILED, 0) + entry["failed"]["count"]
    return counts


def story(counted: Columns, axis: Axis) -> str:
    """The chart in words: which regions answered when. Also its text alternative."""
    stretches: list[tuple[str, int, int]] = []
    for number in sorted(counted):
        column = counted[number]
        regions = " and ".join(sorted(region for region in column if region != FAILED))
        what = regions or "no good answer"
        if stretches and stretches[-1][0] == what and stretches[-1][2] == number:
            stretches[-1] = (what, stretches[-1][1], number + 1)
        else:
            stretches.append((what, number, number + 1))
    failed = sum(column.get(FAILED, 0) for column in counted.values())
    told = [
        f"{what} {start * axis.column:g}–{min(end * axis.column, round(axis.seconds, 1)):g} s"
        for what, start, end in stretches
    ]
    if len(told) > MAX_STRETCHES:
        told[MAX_STRETCHES:] = [f"and {len(told) - MAX_STRETCHES} more changes"]
    return f"{', '.join(told) or 'no requests'}; {failed or 'no'} failed"


def chart(
    service: str,
    counted: Columns,
    axis: Axis,
    marks: Sequence[Mark],
    regions: Sequence[str],
    ident: str,
    lanes: Sequence[tuple[str, str, Sequence[tuple[float, float]]]] = (),
) -> str:
    """The SVG. `ident` makes its ids unique on the page; `regions` fixes the colours' order;
    `lanes` are (label, class, stretches of time) drawn below the columns."""
    rows = _label_rows(marks, axis)
    top = LABEL_ROW * (max(rows, default=0) + 1) + 8
    bottom = top + BARS
    end = bottom + LANE + WRITE_LANE * len(lanes)
    height = end + 24
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="{ident}-title {ident}-desc">',
        f'<title id="{ident}-title">Which region answered {escape(service)}, over time</title>',
        f'<desc id="{ident}-desc">{escape(story(counted, axis))}</desc>',
        f'<rect class="plot" x="{LEFT}" y="{top}" width="{PLOT}" height="{BARS}"/>',
        *_stretches(marks, axis, top),
        *_columns(counted, axis, top, regions),
        *_axis(axis, top, bottom, end),
        *_lanes(lanes, axis, bottom + LANE),
        *_marks(marks, rows, axis, end),
        "</svg>",
    ]
    return "\n".join(parts)


def _columns(counted: Columns, axis: Axis, top: float, regions: Sequence[str]) -> list[str]:
    parts = []
    for number, column in sorted(counted.items()):
        left = axis.x(axis.start + number * axis.column)
        right = axis.x(axis.start + (number + 1) * axis.column)
        width = max(right - left - (0.8 if right - left > 3 else 0), 0.4)
        parts.append(f"<g><title>{escape(_tooltip(number, column, axis))}</title>")
        total = sum(column.values())
        y = top + BARS
        for region in [*_in_order(column, regions), FAILED]:
            share = BARS * column.get(region, 0) / total
            if share:
                y -= share
                parts.append(
                    f'<rect class="{_class(region, regions)}" x="{left:.2f}" y="{y:.2f}" '
                    f'width="{width:.2f}" height="{share:.2f}"/>'
                )
        if column.get(FAILED):
            parts.append(
                f'<rect class="failed-mark" x="{left:.2f}" y="{top + BARS + 3}" '
                f'width="{max(width, 2):.2f}" height="{LANE - 4}"/>'
            )
        parts.append("</g>")
    return parts


def _tooltip(number: int, column: Mapping[str, int], axis: Axis) -> str:
    counts = ", ".join(
        f"{region or 'failed'}: {count}" for region, count in sorted(column.items(), reverse=True)
    )
    return f"{number * axis.column:g}–{(number + 1) * axis.column:g} s: {counts}"


def _in_order(column: Mapping[str, int], regions: Sequence[str]) -> list[str]:
    known = [region for region in regions if region in column]
    return known + sorted(set(column) - set(regions) - {FAILED})


def _class(region: str, regions: Sequence[str]) -> str:
    if region == FAILED:
        return "failed"
    return f"region-{regions.index(region) % 6}" if region in regions else "region-other"


def _stretches(marks: Sequence[Mark], axis: Axis, top: float) -> list[str]:
    return [
        f'<rect class="moving" x="{axis.x(mark.at):.2f}" y="{top - 6}" '
        f'width="{max(axis.x(mark.end_at) - axis.x(mark.at), 2):.2f}" height="4"/>'
        for mark in marks
        if mark.own and mark.end_at is not None
    ]


def _lanes(
    lanes: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], axis: Axis, top: float
) -> list[str]:
    parts = []
    for number, (label, css, stretches) in enumerate(lanes):
        y = top + WRITE_LANE * number + 4
        place = f'x="{LEFT - 6}" y="{y + 8}" text-anchor="end"'
        parts.append(f'<text class="tick" {place}>{escape(label)}</text>')
        for start, end in stretches:
            width = max(axis.x(end) - axis.x(start), 1.0)
            when = f"{start - axis.start:.2f}–{end - axis.start:.2f} s"
            parts.append(
                f'<rect class="{css}" x="{axis.x(start):.2f}" y="{y}" width="{width:.2f}" '
                f'height="{WRITE_LANE - 5}"><title>{escape(label)} {when}</title></rect>'
            )
    return parts


def _axis(axis: Axis, top: float, bottom: float, end: float) -> list[str]:
    parts = [
        f'<text class="tick" x="{LEFT - 6}" y="{top + 9}" text-anchor="end">100 %</text>',
        f'<text class="tick" x="{LEFT - 6}" y="{bottom}" text-anchor="end">0 %</text>',
        f'<line class="axis" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{bottom}" y2="{bottom}"/>',
    ]
    step = round(_step(axis.seconds, MAX_TICKS, 1))
    for second in range(0, int(axis.seconds) + 1, step):
        x = axis.x(axis.start + second)
        parts.append(
            f'<line class="axis" x1="{x:.2f}" x2="{x:.2f}" y1="{bottom}" y2="{bottom + 4}"/>'
            f'<text class="tick" x="{x:.2f}" y="{end + 12}" '
            f'text-anchor="middle">{second} s</text>'
        )
    return parts


def _marks(marks: Sequence[Mark], rows: Sequence[int], axis: Axis, bottom: float) -> list[str]:
    """First all lines, then all labels: a label has a halo that a line behind it cannot cross."""
    lines, labels = [], []
    for mark, row in zip(marks, rows, strict=True):
        x = axis.x(mark.at)
        y = LABEL_ROW * row + 13
        css = f'class="mark {"own" if mark.own else "other"}"'
        place = (x - 4, "end") if _flips(mark, x) else (x + 4, "start")
        lines.append(f'<line {css} x1="{x:.2f}" x2="{x:.2f}" y1="{y - 10}" y2="{bottom}"/>')
        labels.append(
            f'<text {css} x="{place[0]:.2f}" y="{y}" text-anchor="{place[1]}">'
            f"{escape(mark.label)}</text>"
        )
    return lines + labels


def _flips(mark: Mark, x: float) -> bool:
    """Labels near the right edge stand to the left of their line."""
    return x + 4 + CHARACTER * len(mark.label) > WIDTH


def _label_rows(marks: Sequence[Mark], axis: Axis) -> list[int]:
    """The row of each label, 0 on top, so that no label covers another or is crossed by a line.

    A line runs from its label down to the axis. So of two labels that would overlap the one that
    reaches over the other's line has to stand higher.
    """
    spans = [_span(mark, axis.x(mark.at)) for mark in marks]
    flipped = [_flips(mark, axis.x(mark.at)) for mark in marks]
    order = [i for i in reversed(range(len(marks))) if not flipped[i]]
    order += [i for i in range(len(marks)) if flipped[i]]
    levels: dict[int, int] = {}
    for i in order:
        below = [
            level
            for j, level in levels.items()
            if spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]
        ]
        levels[i] = max(below, default=-1) + 1
    highest = max(levels.values(), default=0)
    return [highest - levels[i] for i in range(len(marks))]


def _span(mark: Mark, x: float) -> tuple[float, float]:
    """From where to where a label and its line reach."""
    width = CHARACTER * len(mark.label) + 8
    return (x - width, x + 2) if _flips(mark, x) else (x - 2, x + width)


def _step(seconds: float, most: int, least: float) -> float:
    """The smallest round step of at least `least` that cuts `seconds` into at most `most`."""
    fitting = (step for step in STEPS if step >= least and seconds / step <= most)
    return next(fitting, STEPS[-1])
