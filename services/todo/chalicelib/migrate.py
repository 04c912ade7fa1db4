"""Numbered SQL files, each applied once, in the region whose database takes writes.

One connection holds the row of version 0 locked while another one runs the files: DDL commits by
itself and would drop a lock of its own. The row lock ends with its connection, so a run that dies
blocks nobody. A file is recorded after its last statement; one that was cut off runs again, so its
statements must bear that (IF NOT EXISTS). Old code keeps running beside the new schema: expand
first, contract in a later file.

It also makes the API's database user from the API's secret, with the four rights that it needs, so
that the administrator's secret is used by this function only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymysql

from .credentials import Login
from .database import REFUSES_WRITES, Connection, Cursor, Database, classify
from .errors import MigrationRefused
from .fence import OPEN

FOLDER = Path(__file__).parent / "migrations"
_LOCK_WAIT = "SET SESSION innodb_lock_wait_timeout = 2"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (version INT NOT NULL PRIMARY KEY,"
    " name VARCHAR(100) NOT NULL, checksum CHAR(64) NOT NULL, applied_at DATETIME(6) NOT NULL)"
    " ENGINE=InnoDB"
)
_DDL_TIMEOUT = 50.0
"""Seconds for one statement; the function's own time-out is 60."""
_LOCKED = 1205


def migrate(
    database: Database, region: str, primary_region: str, application: Login | None
) -> dict[str, Any]:
    """Apply what is missing; what was applied and the version now.

    `application`: the user that the API logs in as; None leaves users alone.
    Raises MigrationRefused, Unavailable (no credentials), and PyMySQL's errors as they are.
    """
    try:
        return _migrate(database, region, primary_region, application)
    except pymysql.MySQLError as error:
        if classify(error) in REFUSES_WRITES:
            raise MigrationRefused(f"the database of {region} is not the writer") from None
        raise


def _migrate(
    database: Database, region: str, primary_region: str, application: Login | None
) -> dict[str, Any]:
    guard = _connect(database)
    try:
        with guard.cursor() as cursor:
            _require_writer(cursor, region)
            cursor.execute(_TABLE)
            _lock(guard, cursor)
            return _apply_all(database, region, primary_region, application)
    finally:
        guard.close()


def _connect(database: Database) -> Connection:
    return database.connect(init_command=_LOCK_WAIT, io_timeout=_DDL_TIMEOUT)


def _require_writer(cursor: Cursor, region: str) -> None:
    cursor.execute("SELECT @@read_only, @@innodb_read_only")
    if any(cursor.fetchone()):
        raise MigrationRefused(f"the database of {region} is not the writer")


def _lock(guard: Connection, cursor: Cursor) -> None:
    """Hold the row of version 0 until `guard` is closed."""
    try:
        cursor.execute("INSERT IGNORE INTO schema_migrations VALUES (0, 'lock', '', %s)", (_now(),))
        guard.begin()
        cursor.execute("SELECT version FROM schema_migrations WHERE version = 0 FOR UPDATE")
    except pymysql.OperationalError as error:
        if error.args[0] == _LOCKED:
            raise MigrationRefused("another run is under way") from None
        raise


def _apply_all(
    database: Database, region: str, primary_region: str, application: Login | None
) -> dict[str, Any]:
    connection = _connect(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version, checksum FROM schema_migrations WHERE version > 0")
            known = dict(cursor.fetchall())
            applied = [path.name for path in files() if _apply(cursor, path, known)]
            cursor.execute(
                "INSERT IGNORE INTO fence VALUES (1, 1, %s, %s, %s)",
                (primary_region or region, OPEN, _now()),
            )
            if application:
                _make_user(cursor, application, connection.db.decode())
            cursor.execute("SELECT MAX(version) FROM schema_migrations")
            return {"region": region, "applied": applied, "version": cursor.fetchone()[0]}
    finally:
        connection.close()


def _apply(cursor: Cursor, path: Path, known: dict[int, str]) -> bool:
    version = int(path.name[:4])
    text = path.read_text(encoding="utf-8")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    if version in known:
        if known[version] != checksum:
            raise MigrationRefused(f"{path.name} was changed after it had been applied")
        return False
    for statement in statements(text):
        cursor.execute(statement)
    cursor.execute(
        "INSERT INTO schema_migrations VALUES (%s, %s, %s, %s)",
        (version, path.name, checksum, _now()),
    )
    return True


def _make_user(cursor: Cursor, login: Login, database: str) -> None:
    user = (login.username, login.password)
    cursor.execute("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", user)
    cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", user)
    cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO %s@'%%'", user[:1])


def files(folder: Path = FOLDER) -> list[Path]:
    """The SQL files in the order of their numbers."""
    return sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def statements(text: str) -> Iterator[str]:
    """The statements of a file: lines that begin with -- are left out, `;` ends a line."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip(" \n;"):
            yield statement.strip(" \n;")


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
