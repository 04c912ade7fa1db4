"""How this service uses PyMySQL: when it connects, how long it waits, what it tries again.

- One connection to the writer and one to the reader, kept for the life of the execution
  environment and used without asking first whether they still live. A connection that was idle for
  more than a minute is replaced rather than pinged: a ping over a connection that something on
  the way dropped silently would wait for the whole read time-out.
- TLS always, with the certificate and the host name verified, by one module-global context
  (building one costs more than ten connects).
- A piece of work is a function of a cursor that may run again: each one recognises what an earlier
  attempt of itself has written (see `repository`). So any lost connection leads to one more
  attempt, also when it was lost in COMMIT.
- Time: see `Patience`. A time-out is not followed by another attempt on the same endpoint, so a
  hung database costs a write 3 seconds and a read 6; no caller waits for more than 11, well below
  API Gateway's 29.
- Reads go to the writer's endpoint, so that a client reads what it wrote, and to the reader's when
  the writer's fails; then the reader's goes first for half a minute. The downside: for that long
  after a region became active, reads can be older than a write by the reader's lag.

What is tried again, by error (numbers as in MySQL's error reference; messages differ by product):

    LOST         2006 2013 2055 1053 1927 4031, InterfaceError   close, again once
    TIMED_OUT    any of them or 2003 because of a time-out       close, no more
    UNREACHABLE  2002 2003 2005 2026                             twice, with a pause
    READ_ONLY    1290 1792 1836                                  close; again if the connection was
                                                                 an old one
    PASSIVE      "associated read/write instances" (RDS Proxy)   no more
    BUSY         1040 1203 9501                                  four times, with a pause
    DENIED       1045                                            secret read again, again once
    DEADLOCK     1213 (all rolled back)                          three times
    LOCK_WAIT    1205 (only the statement rolled back)           ROLLBACK, again once
    NO_SCHEMA    1146 1049                                       no more: `migrate` has not run
"""

from __future__ import annotations

import functools
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import pymysql

from .credentials import Credentials
from .errors import Unavailable, WriteRefused
from .settings import Settings

_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
"""No gap locks, which made concurrent inserts deadlock. RDS Proxy tracks it without pinning."""

T = TypeVar("T")
Cursor = Any
Connection = Any


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds."""

    connect: float = 1.5
    io: float = 3.0
    """For each answer of the database, the TLS handshake included."""
    budget: float = 6.0
    """No attempt starts later than this after the first one."""
    idle: float = 60.0
    """A connection that was not used for this long is replaced."""
    avoid: float = 30.0
    """For this long after the writer failed, reads go to the reader first."""


class Fault(Enum):
    LOST = "the connection to the database was lost"
    TIMED_OUT = "the database did not answer in time"
    UNREACHABLE = "the database cannot be reached"
    READ_ONLY = "the database is read-only in this region"
    PASSIVE = "this region has no database that takes writes"
    BUSY = "the database has no free connection"
    DENIED = "the database refused the credentials"
    DEADLOCK = "the change met another one too often"
    LOCK_WAIT = "another transaction holds a lock for too long"
    NO_SCHEMA = "the tables do not exist; run the migrate function"
    BUG = "an unexpected database error"


_BY_CODE = {
    **dict.fromkeys((2006, 2013, 2055, 1053, 1927, 4031), Fault.LOST),
    **dict.fromkeys((2002, 2003, 2005, 2026), Fault.UNREACHABLE),
    **dict.fromkeys((1290, 1792, 1836), Fault.READ_ONLY),
    **dict.fromkeys((1040, 1203, 9501), Fault.BUSY),
    1045: Fault.DENIED,
    1213: Fault.DEADLOCK,
    1205: Fault.LOCK_WAIT,
    1146: Fault.NO_SCHEMA,
    1049: Fault.NO_SCHEMA,
}
_PASSIVE_TEXT = "associated read/write instances"
_AGAIN = {
    Fault.LOST: 1,
    Fault.UNREACHABLE: 2,
    Fault.READ_ONLY: 1,
    Fault.BUSY: 4,
    Fault.DENIED: 1,
    Fault.DEADLOCK: 3,
    Fault.LOCK_WAIT: 1,
}
_PAUSE = {Fault.UNREACHABLE: 0.05, Fault.BUSY: 0.05, Fault.DEADLOCK: 0.01}
"""Seconds before the first repeat; doubled each time, and spread by a random factor of 0.5 to 1."""
_STILL_CONNECTED = {Fault.DEADLOCK, Fault.LOCK_WAIT, Fault.BUG, Fault.NO_SCHEMA}
REFUSES_WRITES = {Fault.READ_ONLY, Fault.PASSIVE}


@functools.cache
def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """The one context for these authorities (the system's, or SSL_CERT_FILE, when empty)."""
    return ssl.create_default_context(cafile=ca_file or None)


def classify(error: Exception) -> Fault:
    """What kind of fault a PyMySQL error is."""
    if isinstance(error, pymysql.err.InterfaceError):
        return Fault.LOST
    code, text = (*error.args, None, "")[:2]
    if _PASSIVE_TEXT in str(text):
        return Fault.PASSIVE
    fault = _BY_CODE.get(code, Fault.BUG)
    cause = getattr(error, "original_exception", None) or error.__context__
    if fault in (Fault.LOST, Fault.UNREACHABLE) and isinstance(cause, TimeoutError):
        return Fault.TIMED_OUT
    return fault


def _no_span(_name: str, _namespace: str) -> AbstractContextManager[None]:
    return nullcontext()


class Attempt:
    """One run of a piece of work inside its transaction."""

    def __init__(self) -> None:
        self.maybe_committed = False
        """An earlier attempt was lost in COMMIT: its change may be there."""
        self.committing = False


class Endpoint:
    """One host and the connection that is kept to it."""

    def __init__(
        self, connect: Callable[[], Connection], idle: float, clock: Callable[[], float]
    ) -> None:
        self._connect = connect
        self._idle = idle
        self._clock = clock
        self._connection: Connection | None = None
        self._used_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def connection(self) -> Connection:
        if self._connection is not None and self._clock() - self._used_at > self._idle:
            self.close()
        if self._connection is None:
            self._connection = self._connect()
        self._used_at = self._clock()
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            connection.close()

    def rollback(self) -> None:
        """End the transaction; a connection on which that fails is closed."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except pymysql.MySQLError:
            self.close()


class Database:
    """The region's writer and reader endpoints under the policy above."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        span: Callable[..., AbstractContextManager[None]] = _no_span,
        patience: Patience = Patience(),  # frozen
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience = patience
        self._settings = settings
        self._credentials = credentials
        self._span = span
        self._clock = clock
        self._sleep = sleep
        self._writer = self._endpoint(init_command=_ISOLATION)
        self._reader = self._endpoint(settings.reader_host)
        self._avoid_writer_until = 0.0

    def connect(
        self, host: str = "", init_command: str | None = None, io_timeout: float = 0
    ) -> Connection:
        """A new connection, to the writer's endpoint by default. Raises PyMySQL's errors."""
        io_timeout = io_timeout or self._patience.io
        login = self._credentials.login()
        return pymysql.connect(
            host=host or self._settings.writer_host,
            port=self._settings.port,
            user=login.username,
            password=login.password,
            database=self._settings.database,
            charset="utf8mb4",
            autocommit=True,
            client_flag=pymysql.constants.CLIENT.FOUND_ROWS,
            connect_timeout=self._patience.connect,
            read_timeout=io_timeout,
            write_timeout=io_timeout,
            init_command=init_command,
            ssl=tls_context(self._settings.ca_file),
        )

    def read(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` where reading is possible. Raises Unavailable."""
        deadline = self._clock() + self._patience.budget
        order = [self._writer, self._reader]
        if self._clock() < self._avoid_writer_until:
            order.reverse()
        for endpoint in order:
            try:
                return self._run(endpoint, _plain(work), deadline)
            except Unavailable as error:
                if endpoint is self._writer:
                    self._avoid_writer_until = self._clock() + self._patience.avoid
                failure = error
        raise failure

    def write(self, work: Callable[[Cursor, Attempt], T]) -> T:
        """Run `work` in one transaction on the writer. Raises Unavailable or WriteRefused."""
        result = self._run(self._writer, _transaction(work), self._clock() + self._patience.budget)
        self._avoid_writer_until = 0.0
        return result

    def close(self) -> None:
        """Close both kept connections; the next use opens them again."""
        self._writer.close()
        self._reader.close()

    def fresh_read(self, work: Callable[[Cursor], T], reader: bool = False) -> T:
        """Run `work` on a connection of its own. Raises Unavailable."""
        host = self._settings.reader_host if reader else ""
        endpoint = self._endpoint(host)
        try:
            return self._run(endpoint, _plain(work), self._clock() + self._patience.budget)
        finally:
            endpoint.close()

    def fresh_write(self, work: Callable[[Cursor, Attempt], T], lock_wait: int) -> T:
        """Run `work` in a transaction on a new connection, so that success proves that the writer's
        endpoint takes writes now; it waits for locks for `lock_wait` seconds at most."""
        # Pins the connection in RDS Proxy, which ends with this one transaction.
        wait = f"SET SESSION innodb_lock_wait_timeout = {lock_wait}"
        endpoint = self._endpoint(init_command=wait, io_timeout=lock_wait + 1)
        try:
            return self._run(endpoint, _transaction(work), self._clock() + lock_wait)
        finally:
            endpoint.close()

    def _endpoint(self, *arguments: Any, **options: Any) -> Endpoint:
        return Endpoint(
            lambda: self.connect(*arguments, **options), self._patience.idle, self._clock
        )

    def _run(
        self, endpoint: Endpoint, once: Callable[[Connection, Attempt], T], deadline: float
    ) -> T:
        """`once` under the retry table, as one subsegment of the trace."""
        with self._span("database", "remote"):
            try:
                return self._attempts(endpoint, once, deadline)
            except (Unavailable, pymysql.MySQLError):
                raise
            except Exception as error:  # noqa: BLE001
                refusal = error  # such as 404 and 412: no fault of the database in the trace
        raise refusal

    def _attempts(
        self, endpoint: Endpoint, once: Callable[[Connection, Attempt], T], deadline: float
    ) -> T:
        attempt = Attempt()
        faults: Counter[Fault] = Counter()
        while True:
            reused = endpoint.is_open
            attempt.committing = False
            try:
                return once(endpoint.connection(), attempt)
            except pymysql.IntegrityError:
                endpoint.rollback()
                raise
            except pymysql.MySQLError as error:
                fault = classify(error)
                if fault in _STILL_CONNECTED:
                    endpoint.rollback()
                else:
                    endpoint.close()
                    attempt.maybe_committed |= attempt.committing and fault not in REFUSES_WRITES
                if fault is Fault.BUG:
                    raise
                faults[fault] += 1
                if not self._again(fault, faults[fault], reused, deadline):
                    raise _unavailable(fault, attempt) from error
            except Exception:
                endpoint.rollback()
                raise

    def _again(self, fault: Fault, count: int, reused: bool, deadline: float) -> bool:
        """Whether to make another attempt, after the pause that the fault asks for."""
        if count > _AGAIN.get(fault, 0) or (fault is Fault.READ_ONLY and not reused):
            return False
        if fault is Fault.DENIED and not self._credentials.refresh():
            return False
        spread = 0.5 + os.urandom(1)[0] / 510
        pause = _PAUSE.get(fault, 0.0) * 2 ** (count - 1) * spread
        if self._clock() + pause >= deadline:
            return False
        if pause:
            self._sleep(pause)
        return True


def _plain(work: Callable[[Cursor], T]) -> Callable[[Connection, Attempt], T]:
    def once(connection: Connection, _: Attempt) -> T:
        with connection.cursor() as cursor:
            return work(cursor)

    return once


def _transaction(work: Callable[[Cursor, Attempt], T]) -> Callable[[Connection, Attempt], T]:
    def once(connection: Connection, attempt: Attempt) -> T:
        connection.begin()
        with connection.cursor() as cursor:
            result = work(cursor, attempt)
        attempt.committing = True
        connection.commit()
        return result

    return once


def _unavailable(fault: Fault, attempt: Attempt) -> Unavailable:
    kind = WriteRefused if fault in REFUSES_WRITES else Unavailable
    return kind(fault.value, applied="unknown" if attempt.maybe_committed else "no")
