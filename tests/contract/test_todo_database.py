"""The connection policy against a real MariaDB: what happens when the database goes wrong."""

import itertools
import os
import signal
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pymysql
import pytest

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_mariadb import ADMINISTRATOR, APPLICATION, FixedLogin, Relay, todo_server
from todo_testing import load

db, errors, fence, migrate, model, operations, repository = load(
    "chalicelib.database",
    "chalicelib.errors",
    "chalicelib.fence",
    "chalicelib.migrate",
    "chalicelib.model",
    "chalicelib.operations",
    "chalicelib.repository",
)
EAST, WEST = "us-east-1", "us-west-2"
NOW = datetime(2026, 11, 20, 12)
ANY = model.UNCONDITIONAL
QUICK = db.Patience(connect=0.5, io=0.5, budget=2.0)
MARGIN = 2.0
"""Seconds that a busy machine may add; without a time-out it would be for ever."""
new_id = model.uuid7_maker()
seconds = itertools.count(1)


@pytest.fixture(scope="module")
def running():
    with todo_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.query("SET GLOBAL read_only = 0")
    running.empty()
    return running


@pytest.fixture
def open_database(server, request):
    def make(*arguments, **more):
        database = server.database(*arguments, **more)
        request.addfinalizer(database.close)
        return database

    return make


@pytest.fixture
def relay(server):
    one = Relay((server.address, server.port))
    yield one
    one.close()


def todo(task="water the plants"):
    return model.Todo("a", new_id(), task, "todo", NOW, NOW, model.new_revision(), EAST)


def stamp():
    return model.Stamp(NOW + timedelta(seconds=next(seconds)), model.new_revision(), EAST)


def rows(server):
    return server.query("SELECT id FROM todo.todo")


def make_read_only(server):
    server.query("SET GLOBAL read_only = 1")


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5])
def test_a_create_that_is_cut_anywhere_is_applied_once(
    server, open_database, relay, piece, answered
):
    """Pieces: BEGIN, fence, idempotent answer, row, COMMIT."""
    todos = repository.MySqlRepository(open_database(port=relay.port), EAST)
    todos.create(todo(), model.Key("first", "0" * 64))
    relay.cut_at(piece, answered)
    wanted = todo()
    created = todos.create(wanted, model.Key("second", "0" * 64))
    assert relay.cuts == 1
    assert (created.id, created.replayed) == (wanted.id, False)
    assert len(rows(server)) == 2


@pytest.mark.parametrize("answered", [True, False])
def test_any_write_whose_commit_is_cut_is_applied_once(server, open_database, relay, answered):
    todos = repository.MySqlRepository(open_database(port=relay.port), EAST)
    row = todo()
    todos.create(row)

    relay.cut_at(4, answered)  # BEGIN, fence, row, COMMIT
    other = todo("without a key")
    assert todos.create(other).id == other.id

    relay.cut_at(5, answered)  # BEGIN, fence, row, UPDATE, COMMIT
    mine = stamp()
    condition = model.Condition(match=frozenset([row.revision]))
    assert todos.patch("a", row.id, model.Changes("new"), mine, condition).revision == mine.revision

    relay.cut_at(5, answered)
    replaced, is_new = todos.put("a", row.id, model.Changes("put", "todo"), stamp(), ANY)
    assert (replaced.task, is_new) == ("put", False)

    relay.cut_at(5, answered)
    put_id = new_id()
    only_new = model.Condition(none_match=frozenset("*"))
    _, is_new = todos.put("a", put_id, model.Changes("put", "todo"), stamp(), only_new)
    assert is_new

    relay.cut_at(5, answered)
    todos.delete("a", row.id, ANY)
    assert relay.cuts == 5
    assert sorted(found for (found,) in rows(server)) == sorted([other.id, put_id])


def test_the_same_key_at_the_same_moment_makes_one_row(server, open_database):
    answers = []

    def create():
        todos = repository.MySqlRepository(open_database(), EAST)
        answers.append(todos.create(todo(), model.Key("same", "0" * 64)))

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(answers) == 6
    assert len({answer.id for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert len(rows(server)) == 1


def test_concurrent_puts_of_one_id_all_end(server, open_database):
    todo_id = new_id()
    created = []

    def put(index):
        todos = repository.MySqlRepository(open_database(), EAST)
        for _ in range(5):
            created.append(todos.put("a", todo_id, model.Changes(f"{index}", "todo"), stamp(), ANY))

    threads = [threading.Thread(target=put, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(created) == 20
    assert [is_new for _, is_new in created].count(True) == 1


def test_a_connection_that_the_server_closed_is_replaced(server, open_database):
    database = open_database()
    todos = repository.MySqlRepository(database, EAST)
    row = todo()
    todos.create(row)
    for act in (lambda: todos.get("a", row.id), lambda: todos.create(todo())):
        for (number,) in server.query(
            "SELECT id FROM information_schema.processlist WHERE user = 'todo'"
        ):
            server.query(f"KILL {number}")
        act()
    assert len(rows(server)) == 2


def test_a_stale_connection_to_a_demoted_writer_refuses_and_reads(server, open_database):
    database = open_database()
    todos = repository.MySqlRepository(database, EAST)
    operator = operations.MySqlOperations(database, EAST)
    row = todo()
    todos.create(row)
    assert operator.depth()["writable"] is True
    make_read_only(server)
    assert todos.get("a", row.id).id == row.id
    depth = operator.depth()
    assert depth["writable"] is False
    assert depth["writer"] == {**depth["writer"], "ok": False}
    with pytest.raises(errors.WriteRefused) as refused:
        todos.create(todo())
    assert refused.value.extra["applied"] == "no"
    with pytest.raises(errors.WriteRefused):
        operator.set_fence(fence.Fence(2, EAST, fence.OPEN), NOW)
    server.query("SET GLOBAL read_only = 0")
    todos.create(todo())
    assert len(rows(server)) == 2


def test_depth_does_not_trust_a_user_who_may_write_to_a_read_only_server(server, open_database):
    make_read_only(server)
    operator = operations.MySqlOperations(open_database(FixedLogin(ADMINISTRATOR)), EAST)
    assert operator.depth()["writable"] is False
    assert server.query("SELECT * FROM todo.heartbeat") == ()


def test_a_transaction_that_began_before_the_demotion_is_not_applied(server, open_database):
    database = open_database()

    def work(cursor, _attempt):
        cursor.execute("INSERT INTO heartbeat (region, epoch, beat_at) VALUES ('x', 1, NOW())")
        make_read_only(server)

    with pytest.raises(errors.WriteRefused):
        database.write(work)
    assert server.query("SELECT * FROM todo.heartbeat") == ()


def test_depth_leaves_a_heartbeat_only_where_the_fence_is_open(server, open_database):
    database = open_database()
    operations.MySqlOperations(database, WEST).depth()
    assert server.query("SELECT * FROM todo.heartbeat") == ()
    operations.MySqlOperations(database, EAST).depth()
    assert [row[:2] for row in server.query("SELECT * FROM todo.heartbeat")] == [(EAST, 1)]
    lag = operations.MySqlOperations(database, WEST).lag()
    assert lag["lag_milliseconds"] is None
    assert lag["heartbeat"]["region"] == EAST
    assert 0 <= lag["heartbeat"]["age_milliseconds"] < 10_000


WRITES = {
    "create": lambda todos, row: todos.create(todo(), model.Key("held", "0" * 64)),
    "put": lambda todos, row: todos.put("a", row.id, model.Changes("x", "todo"), stamp(), ANY),
    "patch": lambda todos, row: todos.patch("a", row.id, model.Changes("x"), stamp(), ANY),
    "delete": lambda todos, row: todos.delete("a", row.id, ANY),
}


@pytest.mark.parametrize("name", WRITES)
def test_draining_returns_only_when_the_writes_in_flight_have_ended(server, open_database, name):
    """A lock on what it changes keeps the write in flight, after it has read the fence. What counts
    is what the database holds when draining returns, not which thread is the first to say so."""
    row, held_when_drained = todo(), []
    repository.MySqlRepository(open_database(), EAST).create(row)
    writing = repository.MySqlRepository(open_database(), EAST)
    draining = operations.MySqlOperations(open_database(), EAST)

    def write():
        WRITES[name](writing, row)

    def drain():
        draining.set_fence(fence.Fence(1, EAST, fence.DRAINING), NOW)
        held_when_drained.append(server.query(rows))

    rows = "SELECT * FROM todo.todo ORDER BY id"
    before = server.query(rows)
    holder = server.root("todo")
    threads = [threading.Thread(target=write), threading.Thread(target=drain)]
    try:
        holder.begin()
        with holder.cursor() as cursor:
            cursor.execute("SELECT * FROM todo WHERE id = %s FOR UPDATE", (row.id,))
            cursor.execute("INSERT INTO idempotency VALUES ('a', 'held', '', 201, '{}', NOW())")
        threads[0].start()
        assert _is_running(server, "%todo%FOR UPDATE" if name != "create" else "%INTO idempotency%")
        threads[1].start()
        assert _is_running(server, "%fence%FOR UPDATE")
        assert held_when_drained == []
        holder.rollback()
    finally:
        holder.close()
        for thread in threads:
            thread.join(10)
    assert held_when_drained == [server.query(rows)] != [before]
    with pytest.raises(errors.WriteRefused):
        WRITES[name](writing, row)


def test_a_drain_that_cannot_end_in_time_changes_nothing(server, open_database):
    holder = server.root("todo")
    try:
        holder.begin()
        with holder.cursor() as cursor:
            cursor.execute("SELECT * FROM fence LOCK IN SHARE MODE")
        operator = operations.MySqlOperations(open_database(), EAST, drain_wait=1)
        begun = time.monotonic()
        with pytest.raises(errors.Unavailable) as refused:
            operator.set_fence(fence.Fence(1, EAST, fence.DRAINING), NOW)
        assert time.monotonic() - begun < 3
        assert refused.value.extra["applied"] == "no"
    finally:
        holder.close()
    assert operator.fence().state == fence.OPEN


def _is_running(server, statement):
    """Whether the application runs such a statement, waited for."""
    deadline = time.monotonic() + 5
    running = "SELECT 1 FROM information_schema.processlist WHERE user = 'todo' AND info LIKE %s"
    while time.monotonic() < deadline:
        if server.query(running, statement):
            return True
    return False


def test_a_hung_database_does_not_hang_its_callers(server, open_database):
    database = open_database(patience=QUICK)
    todos = repository.MySqlRepository(database, EAST)
    row = todo()
    todos.create(row)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(errors.Unavailable):
            todos.create(todo())
        assert time.monotonic() - begun < 2 * QUICK.io + MARGIN
        begun = time.monotonic()
        with pytest.raises(errors.Unavailable):
            todos.get("a", row.id)
        assert time.monotonic() - begun < 3 * QUICK.io + MARGIN
        depth = operations.MySqlOperations(database, EAST).depth()
        assert (depth["writable"], depth["readable"]) == (False, False)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert todos.get("a", row.id).id == row.id


def test_reads_go_to_the_reader_when_the_writer_does_not_answer(server, open_database):
    nobody = "127.0.0.2"  # the server listens on 127.0.0.1 only
    database = open_database(writer=nobody)
    todos = repository.MySqlRepository(database, EAST)
    row = todo()
    repository.MySqlRepository(open_database(), EAST).create(row)
    assert todos.get("a", row.id).id == row.id
    assert [one.id for one in todos.page("a", None, "", 5)] == [row.id]
    with pytest.raises(errors.Unavailable):
        todos.create(todo())
    operator = operations.MySqlOperations(database, EAST)
    depth = operator.depth()
    assert (depth["writable"], depth["readable"]) == (False, True)
    assert operator.fence().active_region == EAST


def test_a_rotated_password_is_read_again_once(server, open_database):
    wrong = (APPLICATION[0], "old")
    todos = repository.MySqlRepository(open_database(FixedLogin(wrong, APPLICATION)), EAST)
    todos.create(todo())
    with pytest.raises(errors.Unavailable):
        repository.MySqlRepository(open_database(FixedLogin(wrong)), EAST).create(todo())
    assert len(rows(server)) == 1


def test_a_certificate_of_a_stranger_is_not_trusted(server, open_database, tmp_path):
    import trustme

    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    trusted, server.ca_file = server.ca_file, stranger
    try:
        database = open_database(patience=QUICK)
    finally:
        server.ca_file = trusted
    with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
        database.connect()
    with pytest.raises(errors.Unavailable):
        repository.MySqlRepository(database, EAST).get("a", new_id())


def test_a_certificate_for_another_name_is_not_trusted(server, open_database):
    elsewhere = "127.0.0.2"  # not in the certificate
    relay = Relay((server.address, server.port), elsewhere)
    try:
        database = open_database(port=relay.port, writer=elsewhere, patience=QUICK)
        with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
            database.connect()
    finally:
        relay.close()


def test_migrating_again_changes_nothing(server):
    before = server.query("SELECT * FROM todo.schema_migrations ORDER BY version")
    assert server.migrate() == {"region": EAST, "applied": [], "version": before[-1][0]}
    assert server.query("SELECT * FROM todo.schema_migrations ORDER BY version") == before


def test_migrating_keeps_the_fence(server):
    server.query("UPDATE todo.fence SET epoch = 7, active_region = 'us-west-2'")
    server.migrate()
    assert server.query("SELECT epoch, active_region FROM todo.fence") == ((7, WEST),)


def test_migrating_goes_on_after_a_run_that_was_cut_off(server):
    server.query("DELETE FROM todo.schema_migrations WHERE version > 0")
    server.query("DROP TABLE todo.heartbeat")
    assert server.migrate()["applied"] == ["0001_tables.sql"]
    assert server.query("SELECT * FROM todo.heartbeat") == ()


def test_two_migrations_at_once_are_one_too_many(server):
    holder = server.root("todo")
    try:
        holder.begin()
        with holder.cursor() as cursor:
            cursor.execute("SELECT * FROM schema_migrations WHERE version = 0 FOR UPDATE")
        with pytest.raises(migrate.MigrationRefused, match="under way"):
            server.migrate()
    finally:
        holder.close()


def test_migrating_is_refused_where_the_database_is_not_the_writer(server):
    """Although its user may write there: in MariaDB "all privileges" includes READ_ONLY ADMIN."""
    make_read_only(server)
    with pytest.raises(migrate.MigrationRefused, match="not the writer"):
        server.migrate(WEST)


def test_a_changed_file_is_refused(server):
    server.query("UPDATE todo.schema_migrations SET checksum = 'x' WHERE version = 1")
    try:
        with pytest.raises(migrate.MigrationRefused, match="changed"):
            server.migrate()
    finally:
        server.query("DELETE FROM todo.schema_migrations WHERE version > 0")
        server.migrate()


def test_the_application_may_not_change_tables(server, open_database):
    with pytest.raises(pymysql.OperationalError):
        open_database().write(lambda cursor, _: cursor.execute("DROP TABLE todo"))


def test_without_tables_the_answer_is_503(server, open_database):
    server.query("RENAME TABLE todo.fence TO todo.hidden")
    try:
        with pytest.raises(errors.Unavailable, match="migrate"):
            repository.MySqlRepository(open_database(), EAST).create(todo())
    finally:
        server.query("RENAME TABLE todo.hidden TO todo.fence")


def test_expired_keys_are_removed_now_and_then(server, open_database):
    todos = repository.MySqlRepository(open_database(), EAST)
    server.query(
        "INSERT INTO todo.idempotency VALUES ('a', 'old', '', 201, '{}', '2026-11-19 11:59:59')"
    )
    for number in range(repository.PURGE_EVERY):
        todos.create(todo(), model.Key(f"key-{number}", "0" * 64))
    kept = {name for (name,) in server.query("SELECT idem_key FROM todo.idempotency")}
    assert kept == {f"key-{number}" for number in range(repository.PURGE_EVERY)}
