"""The retry table of the todo service, on connections that fail as they are told to."""

import sys
from pathlib import Path

import pymysql
import pytest
from pymysql import InterfaceError, OperationalError

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_testing import ENVIRONMENT, load

db, errors, settings = load("chalicelib.database", "chalicelib.errors", "chalicelib.settings")
PASSIVE = OperationalError(
    1105, "The target group doesn't have any associated read/write instances"
)


def error(code):
    return OperationalError(code, "text")


def timed_out(code=2013):
    try:
        try:
            raise TimeoutError("timed out")
        except TimeoutError:
            raise OperationalError(code, "Lost connection") from None
    except OperationalError as made:
        return made


class Cursor:
    def __init__(self, script):
        self._script = script

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def execute(self, sql):
        self._script.step(sql)


class Connection:
    """What the policy uses of a PyMySQL connection."""

    def __init__(self, script):
        self._script = script
        self.open = True

    def cursor(self):
        return Cursor(self._script)

    def begin(self):
        self._script.step("BEGIN")

    def commit(self):
        self._script.step("COMMIT")

    def rollback(self):
        self._script.step("ROLLBACK")

    def close(self):
        self.open = False
        self._script.log.append("close")


class Script(db.Database):
    """A database whose steps fail by a script: `failures[step]` are raised one after the other."""

    def __init__(self, **failures):
        self.log = []
        self.now = 0.0
        self.failures = failures
        self.refreshes = 0
        super().__init__(
            settings.Settings.from_environment(ENVIRONMENT),
            self,
            clock=lambda: self.now,
            sleep=self.pause,
        )

    def pause(self, seconds):
        self.now += seconds
        self.log.append("pause")

    def refresh(self):
        self.refreshes += 1
        return self.refreshes == 1

    def connect(self, host="", init_command=None, io_timeout=0):
        self.step("connect reader" if host else "connect")
        return Connection(self)

    def step(self, name):
        self.log.append(name)
        waiting = self.failures.get(name.split()[-1], [])
        if waiting:
            failure = waiting.pop(0)
            if failure:
                raise failure

    def attempts(self, step="WRITE"):
        return self.log.count(step)


def write(database, step="WRITE"):
    return database.write(lambda cursor, attempt: (cursor.execute(step), attempt)[1])


def test_a_write_is_one_transaction_on_one_kept_connection():
    database = Script()
    write(database)
    write(database)
    assert database.log == ["connect"] + ["BEGIN", "WRITE", "COMMIT"] * 2


@pytest.mark.parametrize("code", [2006, 2013, 2055, 1053, 1927, 4031])
@pytest.mark.parametrize("step", ["BEGIN", "WRITE", "COMMIT"])
def test_a_lost_connection_leads_to_one_more_attempt(code, step):
    attempt = write(Script(**{step: [error(code)]}))
    assert attempt.maybe_committed is (step == "COMMIT")
    with pytest.raises(errors.Unavailable) as refused:
        write(Script(**{step: [error(code), error(code)]}))
    assert refused.value.extra["applied"] == ("unknown" if step == "COMMIT" else "no")


def test_a_dead_connection_object_is_replaced():
    database = Script(BEGIN=[None, InterfaceError(0, "")])
    write(database)
    write(database)
    assert database.log.count("connect") == 2


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [
        (error(1213), 4),
        (error(1205), 2),
        (PASSIVE, 1),
        (timed_out(), 1),
        (error(1146), 1),
        (error(1290), 1),
        (error(1792), 1),
        (error(1836), 1),
        (error(9501), 5),
        (error(1040), 5),
    ],
)
def test_how_often_each_fault_is_tried(failure, attempts):
    database = Script(WRITE=[failure] * 20)
    with pytest.raises(errors.Unavailable) as refused:
        write(database)
    assert database.attempts() == attempts
    assert refused.value.extra["applied"] == "no"
    assert refused.value.headers == {"Retry-After": "1"}
    assert database.now < 2


@pytest.mark.parametrize(("code", "attempts"), [(2003, 3), (2002, 3), (2026, 3), (1045, 2)])
def test_how_often_a_connect_is_tried(code, attempts):
    database = Script(connect=[error(code)] * 20)
    with pytest.raises(errors.Unavailable):
        write(database)
    assert database.attempts("connect") == attempts


def test_a_connect_that_timed_out_is_not_tried_again():
    database = Script(connect=[timed_out(2003)] * 20)
    with pytest.raises(errors.Unavailable, match="in time"):
        write(database)
    assert database.attempts("connect") == 1


def test_refused_credentials_are_read_again_once():
    database = Script(connect=[error(1045)])
    write(database)
    assert database.refreshes == 1


@pytest.mark.parametrize("code", [1290, 1836, 1792])
def test_a_stale_writer_is_left_and_asked_again_once(code):
    database = Script(WRITE=[None, error(code)])
    write(database)
    write(database)
    assert database.log.count("connect") == 2
    database = Script(COMMIT=[None, error(code), error(code)])
    write(database)
    with pytest.raises(errors.WriteRefused) as refused:
        write(database)
    assert refused.value.extra["applied"] == "no"
    assert database.log[-1] == "close"


def test_a_lock_wait_rolls_back_what_is_pending():
    database = Script(WRITE=[error(1205)])
    write(database)
    assert database.log == ["connect", "BEGIN", "WRITE", "ROLLBACK", "BEGIN", "WRITE", "COMMIT"]


def test_a_refusal_by_the_work_ends_the_transaction():
    database = Script()

    def work(_cursor, _attempt):
        raise errors.NotFound("no")

    with pytest.raises(errors.NotFound):
        database.write(work)
    assert database.log == ["connect", "BEGIN", "ROLLBACK"]


def test_an_unknown_error_is_not_hidden():
    with pytest.raises(pymysql.ProgrammingError):
        write(Script(WRITE=[pymysql.ProgrammingError(1064, "syntax")]))


def test_a_connection_that_was_idle_for_long_is_replaced_without_a_ping():
    database = Script()
    write(database)
    database.now = 61
    write(database)
    assert database.log == [
        "connect",
        *["BEGIN", "WRITE", "COMMIT"],
        "close",
        "connect",
        *["BEGIN", "WRITE", "COMMIT"],
    ]


def read(database):
    return database.read(lambda cursor: cursor.execute("READ"))


def test_reads_use_the_writer_first():
    database = Script()
    read(database)
    assert database.log == ["connect", "READ"]


def test_after_a_failure_reads_use_the_reader_for_a_while():
    database = Script(connect=[PASSIVE])
    read(database)
    assert database.log == ["connect", "connect reader", "READ"]
    read(database)
    assert database.log[3:] == ["READ"]
    database.now = 31
    read(database)
    assert database.log[4:] == ["connect", "READ"]


def test_a_write_that_worked_brings_reads_back_to_the_writer():
    database = Script(connect=[PASSIVE])
    read(database)
    write(database)
    before = len(database.log)
    read(database)
    assert database.log[before:] == ["READ"]
    assert database.log.count("connect reader") == 1


def test_no_attempt_starts_after_the_budget():
    database = Script(WRITE=[error(1213)] * 20)

    def work(cursor, _attempt):
        database.now += 4
        cursor.execute("WRITE")

    with pytest.raises(errors.Unavailable):
        database.write(work)
    assert database.attempts() == 2
