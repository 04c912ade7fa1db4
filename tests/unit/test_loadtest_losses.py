"""Write gaps and losses in the evidence and on its page, from runs whose truth is known."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loadtest_evidence import EAST, REGIONS, SETTLE, START, WEST
from test_loadtest_page import Tree

from loadtest.errors import InputError
from loadtest.evidence import judge, main
from loadtest.losses import load_result, stretches, write_gap
from loadtest.moves import parse
from loadtest.page import page
from loadtest.record import CONTRADICTED, REFUSED, REPEATED, WRITES, Cell, Record
from loadtest.report import report

LENGTH = 60.0
MOVE = {
    "kind": "planned_move",
    "service": "todo",
    "from": EAST,
    "to": WEST,
    "commanded_at": START + 10,
    "ended_at": START + 12,
}
KILL = {"kind": "region_killed", "from": WEST, "commanded_at": START + 30}
AWAY = {
    "kind": "evacuation",
    "services": ["api", "todo"],
    "from": WEST,
    "to": EAST,
    "commanded_at": START + 32,
    "ended_at": START + 35,
}
MOVES = [MOVE, KILL, AWAY]
GAPS = ((10.5, 10.93), (30.0, 35.4))
"""Without acknowledged writes: the planned move and the outage."""


def todo_report(gaps: Any = GAPS, ledger: str = "ledger.jsonl") -> dict[str, Any]:
    """A hundred writes per second, refused in the first gap, repeated in the second."""
    record = Record()
    for number in range(int(LENGTH * 100)):
        second = number / 100
        at = START + second
        if any(start <= second < end for start, end in gaps):
            planned = second < 20
            record.mark("todo", REFUSED if planned else REPEATED, at, "stopped")
            continue
        region = WEST if 10.9 <= second < 30 else EAST
        record.good("todo", region, at)
        record.mark("todo", WRITES, at)
    record.mark("todo", CONTRADICTED, START + 40, "update: HTTP 412")
    return report(record, ["todo"], REGIONS, START, START + LENGTH, {"ledger": ledger})


def result(second: float, **found: Any) -> dict[str, Any]:
    counts = {"missing": 0, "reverted": 0, "resurrected": 0, "duplicated": 0, **found}
    return {
        "service": "todo",
        "read_at": START + second,
        "acknowledged": 1000,
        "unknown": 2,
        "rows": 500,
        "by_tenant": {"a": {k: counts[k] for k in list(counts)[:4]}},
        **counts,
    }


CLEAN = result(20)
LOST = result(50, missing=3, reverted=1)


def judged(*results: dict[str, Any], **options: Any) -> dict[str, Any]:
    return judge(todo_report(**options), parse(MOVES, REGIONS), SETTLE, results)


def test_gaps_and_losses_of_planned_and_unplanned_moves() -> None:
    evidence = judged(CLEAN, LOST)
    assert (evidence["verdict"], evidence["reasons"]) == ("passed", [])
    planned, kill, away = evidence["services"]["todo"]["events"]
    assert planned["write_gap_seconds"] == pytest.approx(0.44)
    assert planned["refused"] == 43
    assert planned["ledger"]["missing"] == 0
    # The gap of an outage is that of the kill and of its evacuation, and of nothing before.
    assert kill["write_gap_seconds"] == away["write_gap_seconds"] == pytest.approx(5.41)
    assert (kill["repeated"], away["repeated"]) == (200, 340)
    assert kill["ledger"] is None
    assert (away["ledger"]["missing"], away["ledger"]["reverted"]) == (3, 1)
    assert away["ledger"]["by_tenant"]["a"]["missing"] == 3
    assert away["contradicted"] == 1


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([result(20, missing=2), LOST], "todo: 2 missing after the planned move to us-west-2"),
        ([result(20, reverted=1), LOST], "todo: 1 reverted after the planned move to us-west-2"),
        (
            [result(20, resurrected=1), LOST],
            "todo: 1 resurrected after the planned move to us-west-2",
        ),
        (
            [CLEAN, result(50, duplicated=1)],
            "todo: 1 duplicated after the evacuation to us-east-1",
        ),
        ([LOST], "todo: the ledger was not checked after the planned move to us-west-2"),
        ([CLEAN], "todo: the ledger was not checked after the evacuation to us-east-1"),
        (
            [{**CLEAN, "acknowledged": 0}, LOST],
            "todo: the ledger was empty after the planned move to us-west-2",
        ),
        (
            [CLEAN, {**LOST, "lost_volume": {"differences": 9, "confirmed": 3,
                                             "unconfirmed": [{}], "explained": 6}}],
            "todo: 1 losses are not confirmed by the lost volume after the evacuation to us-east-1",
        ),
        ([result(5, missing=1), CLEAN, LOST], "todo: 1 missing before anything was commanded"),
    ],
)  # fmt: skip
def test_reasons_to_fail(results: list[dict[str, Any]], reason: str) -> None:
    evidence = judged(*results)
    assert (evidence["verdict"], evidence["reasons"]) == ("failed", [reason])


def test_a_run_that_kept_no_ledger_claims_nothing_about_it() -> None:
    evidence = judged(ledger="")
    assert evidence["verdict"] == "passed"
    assert all(event["ledger"] is None for event in evidence["services"]["todo"]["events"])


def test_writes_that_never_came_back_fail_the_move() -> None:
    evidence = judged(CLEAN, LOST, gaps=((10.5, 30.0), (30.0, 35.4)))
    assert evidence["services"]["todo"]["events"][0]["write_gap_seconds"] is not None
    evidence = judged(CLEAN, LOST, gaps=((9.99, 35.4),))
    assert (
        "todo: no write was acknowledged after the planned move to us-west-2"
        in (evidence["reasons"])
    )


def test_several_checks_of_one_event_add_up() -> None:
    (_, _, away) = judged(CLEAN, LOST, result(55, missing=1))["services"]["todo"]["events"]
    assert away["ledger"]["missing"] == 4
    assert away["ledger"]["by_tenant"]["a"]["missing"] == 4


def test_a_service_that_was_moved_but_never_requested_fails() -> None:
    other = {**MOVE, "services": ["todo", "service9"], "service": None}
    evidence = judge(todo_report(), parse([other, KILL, AWAY], REGIONS), SETTLE, [CLEAN, LOST])
    assert evidence["reasons"] == ["service9 was moved, but never requested"]


@given(st.lists(st.floats(0.001, 3), min_size=2, max_size=40), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_gap_is_exact_from_a_tenth_of_a_second_on(steps: list[float], parts: int) -> None:
    records = [Record() for _ in range(parts)]
    at, times = START, [START]
    for number, step in enumerate(steps):
        at += step
        times.append(at)
        records[number % parts].mark("todo", WRITES, at)
    records[0].mark("todo", WRITES, START)
    total = Record()
    for record in records:
        total.merge(record)
    cells = [cell for _, cell in sorted(total.marks.items())]
    found = write_gap(cells, START, at + 1)
    longest = max(after - before for before, after in pairwise(times))
    assert found is not None
    # A double holds a time of today to about a quarter of a microsecond.
    if longest >= 0.1001:
        assert found == pytest.approx(longest, abs=1e-5)
    else:
        assert longest - 1e-5 <= found < 0.1001


def test_stretches_close_small_gaps() -> None:
    cells = [Cell(2, 1.0, 1.05), Cell(1, 1.12, 1.12), Cell(1, 2.0, 2.0)]
    assert stretches(cells, 0.15) == [(1.0, 1.12), (2.0, 2.0)]
    assert stretches([], 0.15) == []


# The page and the command


def test_the_page_tells_gaps_and_losses() -> None:
    document = todo_report()
    evidence = judge(document, parse(MOVES, REGIONS), SETTLE, [CLEAN, LOST])
    text = page(evidence, document["timeline"], "Title", document["marks"])
    tree = Tree(text)
    said = " ".join(tree.text)
    for wanted in (
        "Longest write gap, planned",
        "0.44 s",
        "5.41 s",
        "Writes lost, unplanned",
        "todo, evacuation, tenant a: 3 missing, 1 reverted",
        "todo, attempts refused: 43 x stopped",
        "writes 0.00–10.49 s",
    ):
        assert wanted in said
    lanes = [a for tag, a in tree.attributes if tag == "rect" and a.get("class") == "writes"]
    assert len(lanes) == 3


def test_a_loss_in_a_planned_move_is_red_and_one_in_an_outage_is_not() -> None:
    document = todo_report()
    for results, red in (([CLEAN, LOST], 0), ([result(20, missing=7), LOST], 2)):
        evidence = judge(document, parse(MOVES, REGIONS), SETTLE, results)
        text = page(evidence, document["timeline"], "Title", document["marks"])
        assert text.count('class="bad"') == red


def test_without_writes_the_page_has_no_such_part() -> None:
    record = Record()
    record.good("service1", EAST, START + 1)
    document = report(record, ["service1"], REGIONS, START, START + 2, {})
    text = page(judge(document, ()), document["timeline"])
    assert "Writes" not in text


def test_the_command_takes_results(tmp_path: Path, capsys: Any) -> None:
    files = {"report": todo_report(), "moves": MOVES, "one": LOST, "two": CLEAN}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    common = ["--report", str(tmp_path / "report"), "--moves", str(tmp_path / "moves")]
    for name in ("one", "two"):
        common += ["--ledger-result", str(tmp_path / name)]
    output = ["--json", str(tmp_path / "out.json"), "--html", str(tmp_path / "out.html")]
    assert main([*common, *output, "--settle", str(SETTLE)]) == 0
    evidence = json.loads((tmp_path / "out.json").read_text())
    assert evidence["services"]["todo"]["events"][2]["ledger"]["missing"] == 3
    assert main([*common[:4]]) == 1
    assert main([*common, "--ledger-result", str(tmp_path / "report")]) == 2
    assert "not a result of loadtest.ledger, service, read_at" in capsys.readouterr().err


def test_unusable_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_result(tmp_path / "absent")
    file = tmp_path / "result"
    for text, message in (("{", "not JSON"), ("[]", "service, read_at"), ("{}", "acknowledged")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            load_result(file)
