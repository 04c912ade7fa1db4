"""One server, as the lab's administrator sees it: short blocking calls, each with a time limit.

Every call is made in a worker thread by the event loop's side. A connection is kept and made again
after any failure. Statements that change a role are the measured recipes for MariaDB 10.11; each
one sets a wanted state, so it can be repeated.

Downside: MariaDB demotes with `read_only`, which accounts with READ ONLY ADMIN may pass; only the
lab's own account has that right.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from lab.aurora.accounts import Login
from lab.aurora.errors import SqlFailed

TIMEOUT = 2.0
"""Seconds, for connecting and for each answer."""
_SLICE = 0.5
"""Seconds of one MASTER_GTID_WAIT, so that a process can end meanwhile."""
_ERROR_DIVERGED = 1236
"""The source's binary log does not have what the replica has (or wants)."""


@dataclass(frozen=True, slots=True)
class Replication:
    """SHOW SLAVE STATUS, the part that matters."""

    configured: bool
    source: tuple[str, int] = ("", 0)
    io_running: bool = False
    """Connected to the source and receiving."""
    io_active: bool = False
    """Connected, or trying to."""
    sql_running: bool = False
    io_error: int = 0
    sql_error: int = 0
    error: str = ""
    received: str = ""
    """GTID position of what has been received."""
    seconds_behind: int | None = None

    @property
    def running(self) -> bool:
        return self.io_running and self.sql_running

    @property
    def diverged(self) -> bool:
        """Can never catch up: only a new copy helps."""
        return self.io_error == _ERROR_DIVERGED or (not self.sql_running and self.sql_error != 0)


class Server:
    """Administration of one server. Every method raises SqlFailed."""

    def __init__(
        self, address: str, port: int, login: Login, timeout: float = TIMEOUT, logged: bool = True
    ) -> None:
        self.address = address
        self.port = port
        self.login = login
        self._timeout = timeout
        self._logged = logged
        self._connection: Any = None
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Never waits: a call that is under way in another thread closes when it ends."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()

    def query(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """The rows of one statement."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                with self._connection.cursor() as cursor:
                    cursor.execute(statement, values or None)
                    return list(cursor.fetchall())
            except pymysql.MySQLError as error:
                self._drop()
                number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
                raise SqlFailed(f"{self.address}:{self.port}: {error}", number) from error
            except OSError as error:
                self._drop()
                raise SqlFailed(f"{self.address}:{self.port}: {error}") from error
            finally:
                if self._closed:
                    self._drop()

    def _connect(self) -> Any:
        return pymysql.connect(
            host=self.address,
            port=self.port,
            user=self.login.username,
            password=self.login.password,
            autocommit=True,
            connect_timeout=self._timeout,
            read_timeout=self._timeout,
            write_timeout=self._timeout,
            ssl_disabled=True,  # loopback, and a handshake costs more than most statements
            init_command=None if self._logged else "SET SESSION sql_log_bin = 0",
            cursorclass=DictCursor,
        )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            connection._force_close()  # without COM_QUIT: the server may hang

    # ---- what it is

    def read_only(self) -> bool:
        return bool(self.query("SELECT @@GLOBAL.read_only AS v")[0]["v"])

    def position(self) -> str:
        """GTID position of the last transaction in its binary log."""
        return str(self.query("SELECT @@GLOBAL.gtid_binlog_pos AS v")[0]["v"])

    def applied(self) -> str:
        """GTID position of all that it holds, written here or replicated."""
        return str(self.query("SELECT @@GLOBAL.gtid_current_pos AS v")[0]["v"])

    def replication(self) -> Replication:
        rows = self.query("SHOW SLAVE STATUS")
        if not rows:
            return Replication(configured=False)
        row = rows[0]
        return Replication(
            configured=True,
            source=(row["Master_Host"], int(row["Master_Port"])),
            io_running=row["Slave_IO_Running"] == "Yes",
            io_active=row["Slave_IO_Running"] != "No",
            sql_running=row["Slave_SQL_Running"] == "Yes",
            io_error=int(row["Last_IO_Errno"]),
            sql_error=int(row["Last_SQL_Errno"]),
            error=str(row["Last_SQL_Error"] or row["Last_IO_Error"] or ""),
            received=str(row["Gtid_IO_Pos"] or ""),
            seconds_behind=row["Seconds_Behind_Master"],
        )

    def databases(self) -> list[str]:
        """The user's databases."""
        rows = self.query(
            "SELECT schema_name AS v FROM information_schema.schemata WHERE schema_name NOT IN"
            " ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY schema_name"
        )
        return [str(row["v"]) for row in rows]

    # ---- roles

    def demote(self) -> str:
        """Refuse writes from now on; returns the position of the last one.

        Commits under way end first; transactions that are open fail with 1290 when they commit.
        """
        self.query("SET SESSION lock_wait_timeout = 1")
        self.query("SET GLOBAL read_only = ON")
        return self.position()

    def promote(self) -> None:
        """Stop replicating and take writes."""
        self.stop_following()
        self.query("SET GLOBAL read_only = OFF")
        if self.read_only():
            raise SqlFailed(f"{self.address}:{self.port} is still read-only")

    def stop_following(self) -> None:
        """Also where nothing is configured: kill -9 in the middle of that leaves half of it, with
        which the server could configure nothing any more (error 1201)."""
        self.query("STOP SLAVE")
        self.query("RESET SLAVE ALL")

    def stop_receiving(self) -> None:
        if self.replication().configured:
            self.query("STOP SLAVE IO_THREAD")

    def follow(self, link: tuple[str, int], login: Login) -> None:
        """Be a read-only replica of the server at the other end of `link`."""
        self.query("SET GLOBAL read_only = ON")
        now = self.replication()
        if now.running and now.source == link:
            return
        if now.source != link:
            self.stop_following()
            self.query(
                "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s,"
                " MASTER_PASSWORD = %s, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1,"
                " MASTER_SSL = 0, MASTER_USE_GTID = slave_pos, MASTER_DEMOTE_TO_SLAVE = 1",
                *link, login.username, login.password,
            )
        self.query("START SLAVE")

    def wait_for(self, position: str, seconds: float) -> bool:
        """Until a position has been applied; False if that takes longer."""
        if not position:
            return True
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, min(_SLICE, deadline - time.monotonic()))
            row = self.query("SELECT MASTER_GTID_WAIT(%s, %s) AS v", position, left)[0]
            if row["v"] == 0:
                return True
            if time.monotonic() >= deadline:
                return False

    # ---- accounts

    def set_password(self, login: Login) -> None:
        """On the writer; the other server gets it by replication."""
        self.query("ALTER USER %s@'%%' IDENTIFIED BY %s", login.username, login.password)
