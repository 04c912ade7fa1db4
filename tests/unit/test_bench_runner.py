"""The benchmarks' runner and their table; the benchmarks themselves are not run here."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # run from the checkout, never installed
from bench.__main__ import BENCHMARKS, headline, main
from bench.table import (
    Result,
    Target,
    at_least,
    at_most,
    ratio_at_least,
    ratio_at_most,
    render,
    report,
)

ROOT = Path(__file__).parents[2]


def modules_with_main() -> set[str]:
    return {
        path.stem
        for path in (ROOT / "bench").glob("*.py")
        if path.stem != "__main__"
        and any(
            isinstance(node, ast.FunctionDef) and node.name == "main"
            for node in ast.parse(path.read_text()).body
        )
    }


def test_the_runner_lists_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(BENCHMARKS) == modules_with_main()
    assert len(BENCHMARKS) == len(set(BENCHMARKS))
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_documented(name: str) -> None:
    rows = (ROOT / "docs" / "bench.md").read_text().splitlines()
    assert any(row.startswith(f"| `{name}` |") for row in rows)
    assert headline(name)


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cold_start", "colder_start", "hot_start"])
    assert ended.value.code == 2
    assert "unknown: colder_start, hot_start; known are lab_start" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "peer", "target", "met"),
    [
        (8.0, 1.0, at_most(8), True),
        (8.1, 100.0, at_most(8), False),
        (1500.0, 1.0, at_least(1500), True),
        (1499.0, 1.0, at_least(1500), False),
        (9.0, 5.0, ratio_at_most(1.8), True),
        (9.1, 5.0, ratio_at_most(1.8), False),
        (4.0, 5.0, ratio_at_least(0.8), True),
        (3.9, 5.0, ratio_at_least(0.8), False),
        (1.0, 0.0, ratio_at_most(1.8), False),
        (math.nan, 1.0, at_most(8), False),
        (math.nan, 1.0, at_least(8), False),
        (math.inf, 1.0, None, True),
    ],
)
def test_a_target_binds_the_value_or_its_ratio(
    value: float, peer: float, target: Target | None, met: bool
) -> None:
    assert Result("it", value, "s", "peer", peer, target).met is met


def test_the_table_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    good = Result("lab up", 3.7312, "s", "chalice local", 0.35, at_most(8))
    bad = Result("requests", 1234.5, "/s", "echo", 5000, at_least(1500))
    plain = Result("idle", 151, "MiB")
    assert report([good, plain]) == 0
    assert report([good, bad]) == 1
    assert "load average" in capsys.readouterr().out
    assert render([good, bad, plain]).splitlines() == [
        "measured            beside                   ratio  target       met",
        "lab up      3.73 s  chalice local    0.35 s  10.66  <= 8 s       yes",
        "requests  1,234 /s  echo           5,000 /s   0.25  >= 1,500 /s  NO",
        "idle       151 MiB",
    ]
