"""A benchmark's results: what was measured, beside what, and against which target.

A figure without a target is there for information. A target binds the value itself or its ratio to
the peer's, because on a shared machine only ratios travel from one machine to another.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = ("measured", "", "beside", "", "ratio", "target", "met")


@dataclass(frozen=True, slots=True)
class Target:
    """A limit to keep: an upper one, or a lower one when `at_least`; of the value or the ratio."""

    limit: float
    at_least: bool = False
    of_ratio: bool = False

    def met_by(self, value: float) -> bool:
        """False for a value that is not a number."""
        return value >= self.limit if self.at_least else value <= self.limit


def at_most(limit: float) -> Target:
    return Target(limit)


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


def ratio_at_most(limit: float) -> Target:
    return Target(limit, of_ratio=True)


def ratio_at_least(limit: float) -> Target:
    return Target(limit, at_least=True, of_ratio=True)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. Without a `peer` there is no ratio."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float = float("nan")
    target: Target | None = None

    @property
    def ratio(self) -> float:
        return self.value / self.peer_value if self.peer_value else float("nan")

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.target.met_by(self.ratio if self.target.of_ratio else self.value)


def render(results: Sequence[Result]) -> str:
    """The table as text, a line per result."""
    rows = [HEADER, *(_cells(r) for r in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    to_the_left = (True, False, True, False, False, True, True)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, to_the_left, strict=True)
        ).rstrip()
        for row in rows
    )


def _cells(result: Result) -> tuple[str, ...]:
    has_peer = bool(result.peer)
    return (
        result.name,
        f"{_number(result.value)} {result.unit}",
        result.peer,
        f"{_number(result.peer_value)} {result.unit}" if has_peer else "",
        f"{result.ratio:.2f}" if has_peer else "",
        _target(result),
        "" if result.target is None else "yes" if result.met else "NO",
    )


def _target(result: Result) -> str:
    target = result.target
    if target is None:
        return ""
    sign = ">=" if target.at_least else "<="
    unit = "x" if target.of_ratio else f" {result.unit}"
    return f"{sign} {target.limit:,g}{unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(results: Sequence[Result]) -> int:
    """Print the table and the machine's load; the exit code: 1 when a target is missed."""
    print(render(results))
    print("load average of the machine: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()), flush=True)
    return 0 if all(r.met for r in results) else 1
