"""The ledger and its check: what is found in rows whose history is known, and nothing else."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loadtest.errors import InputError
from loadtest.ledger import Finding, check, last_operations, main, others, reconcile
from loadtest.operations import (
    ACKNOWLEDGED,
    CONTRADICTED,
    CREATE,
    DELETE,
    REFUSED,
    SENT,
    UNKNOWN,
    UPDATE,
    Author,
    Ledger,
    Operation,
    read_ledger,
)
from loadtest.rows import Row, load_rows

seeds = st.integers(0, 2**32)


@dataclass
class History:
    """Authors at work on a database that does what it says."""

    operations: list[Operation] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)

    def of_key(self, key: str) -> list[Operation]:
        return [operation for operation in self.operations if operation.key == key]


def history(seed: int, length: int = 40, certain: float = 0.8) -> History:
    """`certain` is the share of operations that are acknowledged; half of the rest happened."""
    rng = random.Random(seed)
    authors = [Author(f"author{n}", "ab"[n % 2], rng) for n in range(3)]
    made = History()
    now = 0.0
    for number in range(length):
        author = rng.choice(authors)
        now += 1
        operation = replace(author.next(), first_sent_at=now)
        is_acked = rng.random() < certain
        revision = f"r{number}"
        if is_acked or rng.random() < 0.5:
            operation = apply(made, operation, f"id{number:04}", revision)
        if is_acked:
            now += 1
            outcome = replace(operation, state=ACKNOWLEDGED, acked_at=now)
        else:
            # Nobody was told the id and the revision.
            told = "" if operation.op == CREATE else operation.id
            outcome = replace(operation, state=UNKNOWN, id=told, revision="")
        author.done(outcome)
        made.operations.append(outcome)
    return made


def apply(made: History, operation: Operation, row_id: str, revision: str) -> Operation:
    if operation.op == DELETE:
        made.rows.pop(operation.id, None)
        return operation
    row_id = operation.id or row_id
    done = replace(operation, id=row_id, revision=revision)
    made.rows[row_id] = Row(done.tenant, row_id, done.task, done.status, revision)
    return done


@given(seeds, st.floats(0.3, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_faithful_database_has_no_findings(seed: int, certain: float) -> None:
    made = history(seed, certain=certain)
    random.Random(seed).shuffle(made.operations)
    assert check(made.operations, made.rows.values()) == []
    assert others(made.operations, made.rows.values()) == 0


@given(seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_a_row_that_is_dropped_is_missing_and_nothing_else_is(seed: int, data: Any) -> None:
    made = history(seed)
    promised = [row for row in made.rows.values() if is_settled(made, row)]
    assume(promised)
    row = data.draw(st.sampled_from(promised))
    del made.rows[row.id]
    (finding,) = check(made.operations, made.rows.values())
    assert (finding.kind, finding.tenant, finding.id) == ("missing", row.tenant, row.id)


def key_of(made: History, row: Row) -> str:
    return next(o.key for o in made.operations if o.id == row.id or o.task == row.task)


def is_settled(made: History, row: Row) -> bool:
    """All operations on the row were acknowledged."""
    return {o.state for o in made.of_key(key_of(made, row))} == {ACKNOWLEDGED}


@given(seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_an_update_that_is_undone_is_reverted(seed: int, data: Any) -> None:
    made = history(seed)
    updated = [
        row
        for row in made.rows.values()
        if is_settled(made, row) and len(made.of_key(key_of(made, row))) > 1
    ]
    assume(updated)
    row = data.draw(st.sampled_from(updated))
    earlier = made.of_key(key_of(made, row))[-2]
    made.rows[row.id] = Row(row.tenant, row.id, earlier.task, earlier.status, earlier.revision)
    (finding,) = check(made.operations, made.rows.values())
    assert (finding.kind, finding.id) == ("reverted", row.id)
    assert earlier.name in finding.detail


@given(seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_a_deleted_row_that_is_there_again_is_resurrected(seed: int, data: Any) -> None:
    made = history(seed, length=60)
    deleted = [o for o in made.operations if o.op == DELETE and o.state == ACKNOWLEDGED]
    assume(deleted)
    last = data.draw(st.sampled_from(deleted))
    before = made.of_key(last.key)[-2]
    assume(before.state == ACKNOWLEDGED)
    made.rows[last.id] = Row(last.tenant, last.id, before.task, before.status, before.revision)
    (finding,) = check(made.operations, made.rows.values())
    assert (finding.kind, finding.id, finding.op) == ("resurrected", last.id, last.name)


@given(seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_a_second_row_for_one_create_is_duplicated(seed: int, data: Any) -> None:
    made = history(seed)
    creates = [o for o in made.operations if o.op == CREATE and o.state == ACKNOWLEDGED]
    assume(creates)
    create = data.draw(st.sampled_from(creates))
    made.rows["copy"] = Row(create.tenant, "copy", create.task, create.status, "another")
    (finding,) = check(made.operations, made.rows.values())
    assert (finding.kind, finding.tenant, finding.id) == ("duplicated", create.tenant, "copy")
    assert finding.key == create.key


@given(seeds, st.integers(0, 80))
@settings(max_examples=60, deadline=None)
def test_what_happens_after_the_reading_began_is_no_finding(seed: int, cut: int) -> None:
    """Rows as they were at any moment are in order for operations up to that moment."""
    made = history(seed, certain=1.0)
    until = float(cut)
    then = History()
    for operation in made.operations:
        if operation.acked_at is not None and operation.acked_at <= until:
            apply(then, operation, operation.id, operation.revision)
    assert check(made.operations, then.rows.values(), until) == []


def acked(name: str, start: float, end: float, op: str = UPDATE, **values: Any) -> Operation:
    return Operation(
        name, "a", op, "key", "" if op == DELETE else name, "todo", "id", "base",
        ACKNOWLEDGED, values.get("revision", f"r-{name}"), "us-east-1", start, end, 1,
    )  # fmt: skip


times = st.tuples(st.integers(0, 9), st.integers(1, 4))


@given(st.lists(times, min_size=1, max_size=4), st.lists(st.integers(0, 9), max_size=2))
@settings(max_examples=200, deadline=None)
def test_any_order_in_which_overlapping_operations_may_have_happened_is_in_order(
    certain: list[tuple[int, int]], unknown: list[int]
) -> None:
    """Against all orders that the times allow."""
    own = [acked(f"c{n}", start, start + length) for n, (start, length) in enumerate(certain)]
    own += [
        replace(acked(f"u{n}", start, 0), state=UNKNOWN, acked_at=None)
        for n, start in enumerate(unknown)
    ]
    assert {o.name for o in last_operations(own)} == possible_ends(own)


def possible_ends(own: Sequence[Operation]) -> set[str]:
    ends = set()
    for order in permutations(own):
        if all(allowed(order, n, o) for n, o in enumerate(order)):
            ends.add(order[-1].name)
            # An unknown operation may not have happened at all: then the last before it counts.
            happened = [o for o in order if o.state == ACKNOWLEDGED]
            ends.add(happened[-1].name)
    return ends


def allowed(order: Sequence[Operation], number: int, operation: Operation) -> bool:
    """Nothing that ended before `operation` was sent comes after it."""
    return all(
        later.acked_at is None or later.acked_at > operation.first_sent_at
        for later in order[number + 1 :]
    )


CREATED = replace(acked("one", 0, 1, CREATE), base="")


def row(task: str = "one", row_id: str = "id", revision: str = "r-one") -> Row:
    return Row("a", row_id, task, "todo", revision)


@pytest.mark.parametrize(
    ("more", "rows", "kinds"),
    [
        ([], [row()], []),
        ([], [], ["missing"]),
        ([], [row(revision="other")], ["reverted"]),
        ([], [row("nobody's text")], ["reverted"]),
        ([], [row(), row()], ["duplicated"]),
        ([], [row(), row(row_id="id2")], ["duplicated"]),
        # An update that may have happened.
        ([replace(acked("two", 2, 3), state=UNKNOWN, revision="")], [row()], []),
        ([replace(acked("two", 2, 3), state=UNKNOWN, revision="")], [row("two", "id", "x")], []),
        ([replace(acked("two", 2, 3), state=SENT, revision="")], [], ["missing"]),
        # One that was refused has not happened.
        ([replace(acked("two", 2, 3), state=REFUSED)], [row("two", "id", "r-two")], ["reverted"]),
        ([replace(acked("two", 2, 3), state=CONTRADICTED)], [row()], []),
        # A delete that may have happened.
        ([replace(acked("two", 2, 3, DELETE), state=UNKNOWN)], [row()], []),
        ([replace(acked("two", 2, 3, DELETE), state=UNKNOWN)], [], []),
        ([acked("two", 2, 3, DELETE)], [row()], ["resurrected"]),
        # A copy beside a deleted row is a duplicate, not a resurrection.
        ([acked("two", 2, 3, DELETE)], [row(row_id="id2")], ["duplicated"]),
        # Overlapping: either may have been the last one.
        ([acked("two", 2, 5), acked("three", 3, 4)], [row("two", "id", "r-two")], []),
        ([acked("two", 2, 5), acked("three", 3, 4)], [row("three", "id", "r-three")], []),
        ([acked("two", 2, 5), acked("three", 3, 4)], [row()], ["reverted"]),
        ([acked("two", 2, 3), acked("three", 3, 4)], [row("two", "id", "r-two")], ["reverted"]),
    ],
)
def test_single_rows(more: list[Operation], rows: list[Row], kinds: list[str]) -> None:
    assert [finding.kind for finding in check([CREATED, *more], rows)] == kinds


def test_a_create_of_unknown_outcome_may_be_there_once() -> None:
    lost = replace(CREATED, state=UNKNOWN, id="", revision="", acked_at=None)
    assert check([lost], []) == []
    assert check([lost], [row(row_id="x")]) == []
    (finding,) = check([lost], [row(row_id="x"), row(row_id="y")])
    assert (finding.kind, finding.id) == ("duplicated", "y")


def test_one_id_for_two_creates_is_found() -> None:
    other = replace(CREATED, name="other", key="other", task="other")
    kinds = Counter(finding.kind for finding in check([CREATED, other], [row()]))
    assert kinds["duplicated"] == 1


def test_rows_of_others_are_only_counted() -> None:
    rows = [row(), Row("a", "x", "mine", "todo", "r"), Row("b", "id", "one", "todo", "r-one")]
    assert check([CREATED], rows) == []
    assert others([CREATED], rows) == 2


def test_the_lost_volume_confirms_or_does_not() -> None:
    findings = [Finding("missing", "a", "1", "k1"), Finding("reverted", "a", "2", "k2")]
    unknown = replace(CREATED, state=UNKNOWN, id="", acked_at=None)
    volume = reconcile(
        findings,
        [unknown],
        [
            {"kind": "missing", "key": {"id": "1"}, "lost": {"task": "x"}, "serving": None},
            {"kind": "missing", "key": {"id": "3"}, "lost": {"task": "one"}, "serving": None},
            {"kind": "deleted", "key": {"id": "4"}, "lost": None, "serving": {"task": "theirs"}},
        ],
    )
    assert (volume.differences, volume.confirmed) == (3, 1)
    assert volume.unconfirmed == (findings[1],)
    assert (volume.explained, volume.others) == (1, 1)


# Authors and files


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_no_two_operations_write_the_same_text(seed: int) -> None:
    made = history(seed, length=100)
    texts = [o.task for o in made.operations if o.op != DELETE]
    assert len(set(texts)) == len(texts)
    assert len({o.name for o in made.operations}) == len(made.operations)
    assert {o.op for o in made.operations} <= {CREATE, UPDATE, DELETE}


@pytest.mark.parametrize("state", [UNKNOWN, REFUSED, CONTRADICTED])
def test_a_row_that_is_not_as_expected_is_left_alone(state: str) -> None:
    author = Author("x", "a", random.Random(1))
    create = author.next()
    author.done(replace(create, state=ACKNOWLEDGED, id="id", revision="r", acked_at=1.0))
    assert author.ids == ["id"]
    while (operation := author.next()).op == CREATE:
        author.done(replace(operation, state=UNKNOWN))
    author.done(replace(operation, state=state))
    assert author.ids == []


def test_the_file_holds_what_was_appended_and_survives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "ledger.jsonl"
    ledger = Ledger(file)
    sent = replace(CREATED, state=SENT, acked_at=None)
    ledger.append(sent)
    assert read_ledger([file]) == {"one": sent}
    ledger.append(CREATED)
    ledger.append(replace(sent, name="two"))
    ledger.close()
    with file.open("a") as torn:
        torn.write('{"name": "three", "tena')
    found = read_ledger([file])
    assert found["one"] == CREATED
    assert found["two"].state == SENT
    assert len(found) == 2


def test_all_faults_of_ledgers_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    lines = ["nonsense", "[]", '{"name": "x"}', '{"name":"x","tenant":"a","op":"move","key":"x"}']
    lines.append('{"name":"x","tenant":"a","op":"create","key":"x","state":"acknowledged"}')
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        read_ledger([file])
    assert len(caught.value.problems) == 5
    assert all(problem.startswith(f"{file}, line ") for problem in caught.value.problems)
    with pytest.raises(InputError, match="cannot be read"):
        read_ledger([tmp_path / "absent"])


def test_the_command_reads_rows_from_a_file(tmp_path: Path, capsys: Any) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(CREATED)
    ledger.close()
    rows, result = tmp_path / "rows.jsonl", tmp_path / "result.json"
    document = {"tenant": "a", "id": "id", "task": "one", "status": "todo", "revision": "r-one"}
    rows.write_text(json.dumps(document) + "\n")
    common = ["--ledger", str(tmp_path / "ledger*.jsonl"), "--rows", str(rows)]
    assert main([*common, "--json", str(result)]) == 0
    assert "1 acknowledged operations, 0 of unknown outcome, 1 rows: 0 missing" in (
        capsys.readouterr().out
    )
    rows.write_text("")
    assert main([*common, "--json", str(result), "--event", "move"]) == 1
    found = json.loads(result.read_text())
    assert (found["event"], found["missing"], found["by_tenant"]["a"]["missing"]) == ("move", 1, 1)
    assert found["findings"][0]["kind"] == "missing"
    assert main([*common, "--known", str(result)]) == 0
    differences = tmp_path / "differences.jsonl"
    document = {"kind": "missing", "key": {"id": "id"}, "lost": {"task": "one"}, "serving": None}
    differences.write_text(json.dumps(document) + "\n")
    later = ["--confirm", str(result), "--differences", str(differences), "--json", str(result)]
    assert main([*common[:2], *later]) == 1
    confirmed = json.loads(result.read_text())
    assert confirmed.pop("lost_volume")["confirmed"] == 1
    assert confirmed == found
    # As of a time before the create was acknowledged nothing had been promised.
    assert main([*common, "--as-of", "0.5"]) == 0
    capsys.readouterr()


def test_unusable_input_of_the_command(tmp_path: Path, capsys: Any) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"tenant": "a"}\n')
    assert main(["--ledger", str(tmp_path / "none*"), "--rows", str(rows)]) == 2
    with pytest.raises(InputError, match="line 1: KeyError"):
        load_rows(rows)
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("")
    rows.write_text("")
    assert main(["--ledger", str(ledger), "--rows", str(rows)]) == 3
    other = ["--known", str(rows)]
    assert main(["--ledger", str(ledger), "--rows", str(rows), *other]) == 2
    assert "not a result of this program" in capsys.readouterr().err
