"""What only a lost volume has: `python -m lab.aurora.lost --lab-dir .lab`.

    --snapshot ID         default: the newest; `--list` shows all
    --table NAME          default: todo
    --reinsert all|KEY…   put missing rows back
    --overwrite KEY…      give rows that differ the snapshot's content again

The kept snapshot is restored into a throw-away server, as one would restore it into a cluster of
its own on AWS, and compared row by row with the database that serves now. Each difference is one
line of JSON:

    missing     in the snapshot, not in the serving database
    different   in both, with other content
    deleted     in the serving database since before the failover, but not in the snapshot

Nothing is changed without being asked for. Rows are written through the writer's proxy as the
application's user, in one transaction; a row that has come back meanwhile stops all of them.

Downside: the serving database has moved on. A row that somebody has deleted or changed there since
the failover looks the same as one that was lost on the way; its columns tell a person which it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import DictCursor, SSDictCursor

from lab.aurora.accounts import AccountsFile
from lab.aurora.errors import AuroraError
from lab.aurora.files import AuroraFiles
from lab.aurora.layout import SERVER_PORT, WRITER_PORT, Layout, read_layout
from lab.aurora.resync import DUMP
from lab.aurora.server import find, identifier, make_data_directory, scratch_argv
from lab.aurora.state import Snapshot, StateFile
from lab.errors import LabError, UsageError
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import Settings

_CHUNK = 500
_START_SECONDS = 20.0
_TIMEOUT = 30.0

Row = Mapping[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not the same on both sides."""

    kind: str
    """missing, different or deleted."""
    key: Row
    """The primary key's columns."""
    lost: Row | None
    """As the snapshot has it."""
    serving: Row | None


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]

    def key_of(self, row: Row) -> Key:
        return tuple(row[column] for column in self.key)


class Recovery:
    """The kept snapshots of one lab, which must be up to compare or to write."""

    def __init__(self, paths: LabPaths) -> None:
        self._files = AuroraFiles(paths)
        self._layout: Layout = read_layout(
            Deployment.load(paths.deployment), Settings.load(paths.settings)
        )
        self._accounts = AccountsFile(self._files.accounts).read()
        self._state = StateFile(self._files.state, self._layout.seed, time.time)

    def snapshots(self) -> tuple[Snapshot, ...]:
        return self._state.read().snapshots

    def snapshot(self, wanted: str | None) -> Snapshot:
        """The one of that identifier, or the newest. Raises UsageError."""
        kept = self.snapshots()
        found = [s for s in kept if wanted in (None, s.identifier)]
        if not found:
            known = ", ".join(s.identifier for s in kept) or "none"
            raise UsageError(f"no such snapshot; kept are: {known}")
        return max(found, key=lambda s: s.created)

    def differences(self, snapshot: Snapshot, table: str = "todo") -> list[Difference]:
        """All of them, in the order of the keys. Raises AuroraError."""
        with self._restored(snapshot) as lost, self._serving() as serving:
            shape = _table(lost, self._layout.database, table)
            found = list(_only_lost(shape, lost, serving))
            found += _deleted(shape, lost, serving, snapshot.since)
        return sorted(found, key=lambda d: tuple(str(v) for v in d.key.values()))

    def write_back(
        self,
        differences: Iterable[Difference],
        reinsert: Sequence[str],
        overwrite: Sequence[str],
        table: str = "todo",
    ) -> int:
        """Write the chosen rows; how many. `reinsert` may be ["all"]; the others are values of the
        last column of the key. Raises UsageError for a key without such a difference, AuroraError.
        """
        chosen = _chosen(differences, reinsert, overwrite)
        if not chosen:
            return 0
        with self._writer() as database:
            connection = database.connection
            shape = _table(database, self._layout.database, table)
            columns = ", ".join(identifier(c) for c in shape.columns)
            places = ", ".join(["%s"] * len(shape.columns))
            connection.begin()
            try:
                with connection.cursor() as cursor:
                    for difference in chosen:
                        assert difference.lost is not None
                        verb = "INSERT" if difference.kind == "missing" else "REPLACE"
                        cursor.execute(
                            f"{verb} INTO {identifier(table)} ({columns}) VALUES ({places})",
                            [difference.lost[c] for c in shape.columns],
                        )
                connection.commit()
            except pymysql.MySQLError as error:
                raise AuroraError(f"nothing was written: {error}") from error
        return len(chosen)

    # ---- connections

    @contextlib.contextmanager
    def _serving(self) -> Iterator[Database]:
        """The server that takes writes now, for reading."""
        cluster = self._layout.clusters[self._state.read().writer]
        login = self._accounts.admin
        with _connected(
            host=cluster.address, port=SERVER_PORT, user=login.username, password=login.password,
            database=self._layout.database, ssl_disabled=True,
        ) as database:
            yield database

    @contextlib.contextmanager
    def _writer(self) -> Iterator[Database]:
        cluster = self._layout.clusters[self._state.read().writer]
        secret = next(s for s in self._layout.secrets if not s.administrator)
        login = self._accounts.values[secret.name].login
        with _connected(
            host=cluster.address, port=WRITER_PORT, user=login.username, password=login.password,
            database=self._layout.database,
            ssl=ssl.create_default_context(cafile=str(self._files.ca)),
        ) as database:
            yield database

    @contextlib.contextmanager
    def _restored(self, snapshot: Snapshot) -> Iterator[Database]:
        """A throw-away server with the snapshot's content."""
        dump = self._files.snapshots / snapshot.folder / DUMP
        if not dump.exists():
            raise AuroraError(f"{snapshot.identifier}: {dump} is gone")
        folder = Path(tempfile.mkdtemp(prefix="lab-restore-"))
        try:
            data, path = folder / "data", folder / "sock"
            make_data_directory(self._files, data)
            with (folder / "log").open("wb") as log, _server(scratch_argv(data, path), log):
                _await_socket(path, folder / "log")
                _load(dump, path)
                with _connected(
                    unix_socket=str(path), user="root", database=self._layout.database
                ) as database:
                    yield database
        finally:
            shutil.rmtree(folder, ignore_errors=True)


# ---- comparing


class Database:
    """A connection, and how to make another one like it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self.connection: Any = pymysql.connect(**options)

    def rows(self, query: str, values: Sequence[object]) -> list[dict[str, Any]]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def chunks(self, query: str, values: Sequence[object] = ()) -> Iterator[list[dict[str, Any]]]:
        """The rows of a query, some hundred at a time, on a connection of their own."""
        reading = pymysql.connect(**self._options)
        with contextlib.closing(reading), reading.cursor(SSDictCursor) as cursor:
            cursor.execute(query, values or None)
            while chunk := cursor.fetchmany(_CHUNK):
                yield list(chunk)


def _table(database: Database, schema: str, name: str) -> Table:
    rows = database.rows(
        "SELECT column_name AS name, column_key = 'PRI' AS is_key FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        [schema, name],
    )
    key = tuple(r["name"] for r in rows if r["is_key"])
    if not key:
        raise UsageError(f"there is no table {name!r} with a primary key in {schema}")
    return Table(name, key, tuple(r["name"] for r in rows))


def _only_lost(table: Table, lost: Database, serving: Database) -> Iterator[Difference]:
    for chunk in lost.chunks(f"SELECT * FROM {identifier(table.name)}"):  # noqa: S608 - quoted
        there = _find(table, serving, chunk)
        for row in chunk:
            other = there.get(table.key_of(row))
            key = {column: row[column] for column in table.key}
            if other is None:
                yield Difference("missing", key, row, None)
            elif other != row:
                yield Difference("different", key, row, other)


def _deleted(
    table: Table, lost: Database, serving: Database, before: float
) -> Iterator[Difference]:
    """What the serving database has had since before the failover and the snapshot has not."""
    if "updated_at" not in table.columns:
        return
    when = datetime.fromtimestamp(before, UTC).replace(tzinfo=None)
    query = f"SELECT * FROM {identifier(table.name)} WHERE updated_at < %s"  # noqa: S608
    for chunk in serving.chunks(query, [when]):
        there = _find(table, lost, chunk)
        for row in chunk:
            if table.key_of(row) not in there:
                key = {column: row[column] for column in table.key}
                yield Difference("deleted", key, None, row)


def _find(table: Table, database: Database, rows: Sequence[Row]) -> dict[Key, Row]:
    """The rows of the same keys on this side."""
    columns = ", ".join(identifier(c) for c in table.key)
    one = "(" + ", ".join(["%s"] * len(table.key)) + ")"
    places = ", ".join([one] * len(rows))
    values = [row[column] for row in rows for column in table.key]
    query = f"SELECT * FROM {identifier(table.name)} WHERE ({columns}) IN ({places})"  # noqa: S608
    found = database.rows(query, values)
    return {table.key_of(row): row for row in found}


def _chosen(
    differences: Iterable[Difference], reinsert: Sequence[str], overwrite: Sequence[str]
) -> list[Difference]:
    chosen: list[Difference] = []
    unknown = [*(k for k in reinsert if k != "all"), *overwrite]
    for difference in differences:
        name = str(list(difference.key.values())[-1])
        wanted = reinsert if difference.kind == "missing" else overwrite
        if difference.lost is not None and (
            name in wanted or (difference.kind == "missing" and "all" in reinsert)
        ):
            chosen.append(difference)
            unknown = [k for k in unknown if k != name]
    if unknown:
        raise UsageError("no such difference: " + ", ".join(unknown))
    return chosen


# ---- the throw-away server


@contextlib.contextmanager
def _connected(**options: Any) -> Iterator[Database]:
    options = {
        "charset": "utf8mb4", "autocommit": True, "cursorclass": DictCursor,
        "connect_timeout": _TIMEOUT, "read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT, **options,
    }
    try:
        database = Database(options)
        with contextlib.closing(database.connection):
            yield database
    except pymysql.MySQLError as error:
        where = options.get("host", "the restored snapshot")
        raise AuroraError(f"{where}: {error}") from error


@contextlib.contextmanager
def _server(argv: Sequence[str], log: Any) -> Iterator[None]:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()  # its data is thrown away
        process.wait(10)


def _await_socket(path: Path, log: Path) -> None:
    """Until the server listens, which is when it is ready."""
    deadline = time.monotonic() + _START_SECONDS
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(str(path)):
            if time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-1000:]
                raise AuroraError(f"the snapshot's server does not start:\n{tail}")
            time.sleep(0.02)


def _load(dump: Path, path: Path) -> None:
    argv = [find("mariadb"), "--no-defaults", "--batch", f"--socket={path}", "--user=root"]
    with dump.open("rb") as file:
        done = subprocess.run(
            argv, stdin=file, capture_output=True, timeout=600, check=False, env=dict(os.environ)
        )
    if done.returncode:
        raise AuroraError(f"{dump} cannot be restored: {done.stderr.decode()[-500:]}")


# ---- the command


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _main(_parser().parse_args(arguments))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.aurora.lost", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab-dir", type=Path, default=Path(".lab"))
    parser.add_argument("--list", action="store_true", help="the kept snapshots, and no more")
    parser.add_argument("--snapshot")
    parser.add_argument("--table", default="todo")
    parser.add_argument("--reinsert", nargs="+", default=[], metavar="KEY")
    parser.add_argument("--overwrite", nargs="+", default=[], metavar="KEY")
    return parser


def _main(options: argparse.Namespace) -> int:
    paths = LabPaths(options.lab_dir)
    if not paths.deployment.exists():
        raise UsageError(f"there is no lab in {options.lab_dir}")
    recovery = Recovery(paths)
    if options.list:
        for kept in recovery.snapshots():
            sys.stdout.write(f"{kept.identifier}\n")
        return 0
    snapshot = recovery.snapshot(options.snapshot)
    found = recovery.differences(snapshot, options.table)
    for difference in found:
        line = {"kind": difference.kind, "key": difference.key, "lost": difference.lost,
                "serving": difference.serving}
        sys.stdout.write(json.dumps(line, default=_plain) + "\n")
    kinds = ("missing", "different", "deleted")
    counts = ", ".join(f"{sum(d.kind == k for d in found)} {k}" for k in kinds)
    sys.stderr.write(f"{snapshot.identifier}: {counts}\n")
    written = recovery.write_back(found, options.reinsert, options.overwrite, options.table)
    if options.reinsert or options.overwrite:
        sys.stderr.write(f"{written} rows written\n")
    return 0


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.exit(main())
