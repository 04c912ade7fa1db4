"""Was anything lost? The ledger of acknowledged writes against the database that serves now.

    python -m loadtest.ledger --ledger 'reports/ledger*.jsonl' --json reports/check-1.json

reads all rows through the API (`--api-url`, `--tokens-file`; or `--rows` from a file), then the
ledger, and reports by tenant:

- `missing`: a row whose create was acknowledged, and no delete after it, is not there;
- `reverted`: a row is there, but not as the last acknowledged write left it;
- `resurrected`: a row whose delete was acknowledged is there again;
- `duplicated`: two rows for one create, or one id for two creates.

An operation whose outcome is unknown may have happened or not, early or late: both are in order.
So is either state for an operation that was under way while the rows were read; traffic need not
be stopped for a check. What is found is looked at again after `--confirm-after` seconds and counts
only if it is still so, because a region that has just become active may for some seconds answer
from a reader that lags behind.

A lost volume is often readable only later, when its region is back and other moves have been made.
Then

    python -m loadtest.ledger --ledger 'reports/ledger*.jsonl' --confirm reports/check-1.json \
        --differences lost.jsonl --json reports/check-1.json

reads no rows, but adds to an earlier result which of its findings the volume confirms.

`check` is pure. It makes no use of the order in which lines stand in the ledger: per row, an
operation can be the last one unless another that is certain began after it had ended.

Exit code 0: nothing found, 1: something found, 2: unusable input, 3: the ledger holds no
acknowledged operation, so nothing is known.

The downside: two clients that write to one row are not understood; `loadtest.operations` says why
there are none. Texts that no operation of the ledger wrote are other people's rows: only counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

from loadtest.errors import InputError
from loadtest.operations import (
    ACKNOWLEDGED,
    CREATE,
    DELETE,
    SENT,
    UNKNOWN,
    Operation,
    read_ledger,
)
from loadtest.report import write_json
from loadtest.rows import ReadingFailed, Row, json_lines, load_rows, read_rows
from loadtest.sender import Network, add_arguments
from loadtest.tokens import Tokens, asker, load_clients
from loadtest.writes import authorized

MISSING, REVERTED, RESURRECTED, DUPLICATED = "missing", "reverted", "resurrected", "duplicated"
KINDS = (MISSING, REVERTED, RESURRECTED, DUPLICATED)
EXIT_USAGE, EXIT_NOTHING_KNOWN = 2, 3
ALWAYS = float("inf")
Key = tuple[str, str]
"""(tenant, name of the create)"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was acknowledged."""

    kind: str
    tenant: str
    id: str
    key: str
    """The name of the create that the row began with."""
    op: str = ""
    """The name of the last acknowledged operation on the row."""
    detail: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return self.kind, self.tenant, self.id, self.key


@dataclass(frozen=True, slots=True)
class _State:
    """What one operation leaves behind; `there` is False after a delete."""

    there: bool
    task: str = ""
    status: str = ""
    revision: str = ""

    def matches(self, row: Row) -> bool:
        return (
            self.there
            and (self.task, self.status) == (row.task, row.status)
            and self.revision in ("", row.revision)
        )


def check(
    operations: Iterable[Operation], rows: Iterable[Row], certain_until: float = ALWAYS
) -> list[Finding]:
    """Everything that is not as acknowledged, in the order of tenants and keys.

    `certain_until`: the time (seconds since the epoch) at which reading the rows began. Operations
    acknowledged until then must be seen in the rows; all later ones may be.
    """
    by_key: defaultdict[Key, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.tenant, operation.key].append(operation)
    found_rows = _rows_by_key(by_key, rows)
    findings = [*_shared_ids(by_key)]
    for key in sorted(by_key):
        findings.extend(_findings(key, by_key[key], found_rows.get(key, []), certain_until))
    return sorted(findings, key=lambda finding: (finding.tenant, finding.key, finding.kind))


def others(operations: Iterable[Operation], rows: Iterable[Row]) -> int:
    """How many rows the ledger knows nothing about."""
    by_key: defaultdict[Key, list[Operation]] = defaultdict(list)
    known = list(rows)
    for operation in operations:
        by_key[operation.tenant, operation.key].append(operation)
    return len(known) - sum(len(own) for own in _rows_by_key(by_key, known).values())


def _rows_by_key(
    by_key: Mapping[Key, Sequence[Operation]], rows: Iterable[Row]
) -> dict[Key, list[Row]]:
    """The rows of each create: those that hold one of its texts, and the one with its id."""
    by_text: dict[tuple[str, str], Key] = {}
    by_id: dict[tuple[str, str], Key] = {}
    for key, own in by_key.items():
        for operation in own:
            if operation.op != DELETE:
                by_text[operation.tenant, operation.task] = key
            if operation.id:
                by_id[operation.tenant, operation.id] = key
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        owner = by_text.get((row.tenant, row.task)) or by_id.get((row.tenant, row.id))
        if owner is not None:
            found[owner].append(row)
    return found


def _shared_ids(by_key: Mapping[Key, Sequence[Operation]]) -> Iterable[Finding]:
    """Ids that were given to two creates."""
    owners: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for (tenant, key), own in by_key.items():
        for operation in own:
            if operation.op == CREATE and operation.state == ACKNOWLEDGED:
                owners[tenant, operation.id].add(key)
    for (tenant, row_id), keys in owners.items():
        first, *more = sorted(keys)
        for key in more:
            yield Finding(DUPLICATED, tenant, row_id, key, detail=f"the id was given to {first}")


def _findings(
    key: Key, own: Sequence[Operation], rows: Sequence[Row], certain_until: float
) -> Iterable[Finding]:
    tenant, name = key
    row_id = next((operation.id for operation in own if operation.id), "")
    mine = [row for row in rows if row.id == row_id]
    copies = [row for row in rows if row.id != row_id]
    # Without an acknowledged create nobody knows the id: one row is in order, whatever its id.
    for copy in copies if row_id else copies[1:]:
        yield Finding(DUPLICATED, tenant, copy.id, name, detail=f"a second row beside {row_id}")
    yield from (
        Finding(DUPLICATED, tenant, row_id, name, detail="two rows with one id") for _ in mine[1:]
    )
    last = last_operations(own, certain_until)
    if not last:
        return
    final = max(last, key=lambda operation: operation.first_sent_at)
    states = [_left_by(operation) for operation in last]
    if not mine:
        if all(state.there for state in states):
            yield Finding(MISSING, tenant, row_id, name, final.name, "the row is not there")
    elif not any(state.matches(mine[0]) for state in states):
        if any(state.there for state in states):
            yield Finding(REVERTED, tenant, row_id, name, final.name, _holds(own, mine[0]))
        else:
            yield Finding(RESURRECTED, tenant, row_id, name, final.name, _holds(own, mine[0]))


def last_operations(own: Sequence[Operation], certain_until: float = ALWAYS) -> list[Operation]:
    """The operations on one row of which each may have been the last to take effect.

    `own` are all operations on it, in any order. Empty when none of them is certain.
    """
    certain = [o for o in own if o.state == ACKNOWLEDGED and (o.acked_at or 0.0) <= certain_until]
    if not certain:
        return []
    latest_start = max(operation.first_sent_at for operation in certain)
    last = [
        o for o in certain if (o.acked_at or 0.0) > latest_start or o.first_sent_at == latest_start
    ]
    # Whatever is not certain may come last, however long ago it was sent, or not at all.
    late = [o for o in own if o.state == ACKNOWLEDGED and (o.acked_at or 0.0) > certain_until]
    return [*last, *late, *(o for o in own if o.state in (SENT, UNKNOWN))]


def _left_by(operation: Operation) -> _State:
    if operation.op == DELETE:
        return _State(there=False)
    return _State(True, operation.task, operation.status, operation.revision)


def _holds(own: Sequence[Operation], row: Row) -> str:
    writer = next((o for o in own if o.op != DELETE and o.task == row.task), None)
    if writer is None:
        return "the row holds a text that the ledger does not know"
    return f"the row is as {writer.name} ({writer.state}) left it"


@dataclass(frozen=True, slots=True)
class LostVolume:
    """The findings against what only a lost volume has."""

    differences: int
    confirmed: int
    """Findings that the volume confirms."""
    unconfirmed: tuple[Finding, ...]
    """Losses that the ledger found and the volume does not know about."""
    explained: int
    """Differences in rows of this ledger that are now as acknowledged: changed or deleted since, or
    what the volume has was never acknowledged."""
    others: int
    """Differences in rows that the ledger does not know."""


_DIFFERENCE = {MISSING: "missing", REVERTED: "different", RESURRECTED: "deleted"}


def reconcile(
    findings: Iterable[Finding],
    operations: Iterable[Operation],
    differences: Sequence[Mapping[str, Any]],
) -> LostVolume:
    """Compares by id. `differences` have `kind` (`missing`: only in the lost volume; `different`;
    `deleted`: only in the database that serves), `key` with the row's `id`, and `lost` and
    `serving`, the row's columns or null."""
    by_id = {(str(d["key"]["id"]), d["kind"]) for d in differences}
    losses = [finding for finding in findings if finding.kind in _DIFFERENCE]
    unconfirmed = tuple(f for f in losses if (f.id, _DIFFERENCE[f.kind]) not in by_id)
    lost = {finding.id for finding in losses}
    own_ids, own_texts = set(), set()
    for operation in operations:
        own_ids.add(operation.id)
        own_texts.add(operation.task)
    explained = foreign = 0
    for difference in differences:
        if str(difference["key"]["id"]) in lost:
            continue
        row = difference.get("lost") or difference.get("serving") or {}
        if difference["key"]["id"] in own_ids or row.get("task") in own_texts - {""}:
            explained += 1
        else:
            foreign += 1
    return LostVolume(
        len(differences), len(losses) - len(unconfirmed), unconfirmed, explained, foreign
    )


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        document = _checked(options)
    except (InputError, ReadingFailed) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    if options.json:
        write_json(options.json, document)
    sys.stdout.write(summary(document))
    if not document["acknowledged"]:
        return EXIT_NOTHING_KNOWN
    return 1 if any(document[kind] for kind in KINDS) else 0


def summary(document: Mapping[str, Any]) -> str:
    """The result in a few lines for people."""
    counts = ", ".join(f"{document[kind]} {kind}" for kind in KINDS)
    lines = [
        f"{document['acknowledged']} acknowledged operations, {document['unknown']} of unknown "
        f"outcome, {document['rows']} rows: {counts}"
    ]
    for finding in document["findings"]:
        lines.append(f"  {finding['kind']} {finding['id'] or finding['key']}: {finding['detail']}")
    if document["known"]:
        lines.append(f"  {document['known']} more were reported before")
    volume = document.get("lost_volume")
    if volume:
        lines.append(
            f"  lost volume: {volume['differences']} differences; {volume['confirmed']} confirm "
            f"findings, {len(volume['unconfirmed'])} findings are not confirmed"
        )
    return "\n".join(lines) + "\n"


def _checked(options: argparse.Namespace) -> dict[str, Any]:
    if options.confirm:
        document = _result(options.confirm)
        found = [Finding(**finding) for finding in document["findings"]]
        operations = read_ledger(_paths(options.ledger))
        return {**document, **_against_volume(options, found, operations)}
    known = {
        Finding(**finding).identity
        for path in _paths(options.known)
        for finding in _result(path)["findings"]
    }
    look = _from_file(options) if options.rows else _from_api(options)
    rows, operations, began_at, findings = look()
    new = [finding for finding in findings if finding.identity not in known]
    if new and not options.rows:
        gevent.sleep(options.confirm_after)
        rows, operations, _, confirmed = look()
        still = {finding.identity for finding in confirmed}
        findings = [finding for finding in findings if finding.identity in still]
        new = [finding for finding in new if finding.identity in still]
    return {
        "version": 1,
        "event": options.event,
        "service": options.service,
        "read_at": began_at if began_at != ALWAYS else time.time(),
        **_counts(operations.values(), rows, new),
        "known": len(findings) - len(new),
        "by_tenant": {
            tenant: _counts(
                [o for o in operations.values() if o.tenant == tenant],
                [r for r in rows if r.tenant == tenant],
                [f for f in new if f.tenant == tenant],
            )
            for tenant in sorted({o.tenant for o in operations.values()})
        },
        "findings": [dataclasses.asdict(finding) for finding in new],
        **_against_volume(options, new, operations),
    }


def _against_volume(
    options: argparse.Namespace, findings: Sequence[Finding], operations: Mapping[str, Operation]
) -> dict[str, Any]:
    if not options.differences:
        return {}
    volume = reconcile(findings, operations.values(), json_lines(options.differences))
    return {"lost_volume": dataclasses.asdict(volume)}


def _counts(
    operations: Iterable[Operation], rows: Sequence[Row], findings: Iterable[Finding]
) -> dict[str, int]:
    own = list(operations)
    states = Counter(operation.state for operation in own)
    kinds = Counter(finding.kind for finding in findings)
    return {
        "acknowledged": states[ACKNOWLEDGED],
        "unknown": states[UNKNOWN] + states[SENT],
        "rows": len(rows),
        "others": others(own, rows),
        **{kind: kinds[kind] for kind in KINDS},
    }


Look = Callable[[], tuple[list[Row], dict[str, Operation], float, list[Finding]]]


def _from_file(options: argparse.Namespace) -> Look:
    def look() -> tuple[list[Row], dict[str, Operation], float, list[Finding]]:
        rows = load_rows(options.rows)
        operations = read_ledger(_paths(options.ledger))
        found = check(operations.values(), rows, options.as_of)
        return rows, operations, options.as_of, found

    return look


def _from_api(options: argparse.Namespace) -> Look:
    network = Network(options)
    if not options.tokens_file:
        raise InputError(["the clients are missing: --tokens-file or TOKENS_FILE"])
    counters: Counter[str] = Counter()
    ask = asker(network.pool)
    tenants = {
        name: authorized(network.api(), Tokens(clients, ask, counters))
        for name, clients in load_clients(options.tokens_file).items()
    }

    def look() -> tuple[list[Row], dict[str, Operation], float, list[Finding]]:
        began_at = time.time()
        rows = [
            row
            for tenant, send in tenants.items()
            for row in read_rows(send, tenant, gevent.sleep, options.deadline)
        ]
        # Only now: what was sent before or while the rows were read is in the file by now.
        operations = read_ledger(_paths(options.ledger))
        return rows, operations, began_at, check(operations.values(), rows, began_at)

    return look


def _paths(patterns: Sequence[str]) -> list[str]:
    paths = sorted({path for pattern in patterns for path in glob.glob(pattern)})
    missing = [pattern for pattern in patterns if not glob.glob(pattern)]
    if missing:
        raise InputError(f"{pattern}: there is no such file" for pattern in missing)
    return paths


def _result(path: str) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        missing = [key for key in ("findings", "acknowledged", *KINDS) if key not in document]
        if missing:
            raise KeyError(*missing)
        return dict(document)
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError([f"{path}: not a result of this program: {error!r}"]) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.ledger",
        description="Compares acknowledged writes with the database that serves now.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--ledger", action="append", required=True, help="file or pattern; may be given often"
    )
    parser.add_argument("--rows", help="read the rows from this file of JSON lines instead")
    parser.add_argument(
        "--as-of",
        type=float,
        default=ALWAYS,
        help="with --rows: when they were read, in seconds since the epoch (default: at the end)",
    )
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--event", default="", help="a label for the result")
    parser.add_argument(
        "--known",
        action="append",
        default=[],
        help="earlier results: what they found is not reported again; file or pattern",
    )
    parser.add_argument(
        "--differences", help="JSON lines: rows in which a lost volume differs from the database"
    )
    parser.add_argument(
        "--confirm", help="an earlier result to which the comparison with --differences is added"
    )
    parser.add_argument(
        "--confirm-after",
        type=float,
        default=2.0,
        help="seconds after which findings are looked at again (%(default)s)",
    )
    parser.add_argument(
        "--deadline", type=float, default=60.0, help="seconds for reading a tenant (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
