"""One contract for the repository and the operator's side, kept in memory and on a real MariaDB."""

import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_mariadb import todo_server
from todo_testing import load

errors, fence, model, memory, operations, repository = load(
    "chalicelib.errors",
    "chalicelib.fence",
    "chalicelib.model",
    "chalicelib.memory",
    "chalicelib.operations",
    "chalicelib.repository",
)
EAST, WEST = "us-east-1", "us-west-2"
NOW = datetime(2026, 11, 20, 12, 0, 0, 123456)
ANY = model.UNCONDITIONAL
new_id = model.uuid7_maker()


@pytest.fixture(scope="module")
def server():
    with todo_server() as running:
        yield running


class Pair:
    """A repository and the operator's side of the same data."""

    def __init__(self, todos, operator):
        self.todos = todos
        self.operator = operator


@pytest.fixture(params=["memory", "mariadb"])
def store(request):
    if request.param == "memory":
        one = memory.MemoryRepository(EAST)
        yield Pair(one, one)
        return
    server = request.getfixturevalue("server")
    server.empty()
    database = server.database()
    yield Pair(
        repository.MySqlRepository(database, EAST), operations.MySqlOperations(database, EAST)
    )
    database.close()


def todo(task="water the plants", tenant="a", status="todo", at=NOW, todo_id=""):
    return model.Todo(tenant, todo_id or new_id(), task, status, at, at, model.new_revision(), EAST)


def stamp(at=NOW + timedelta(seconds=1)):
    return model.Stamp(at, model.new_revision(), EAST)


def key(value="key-1", request_hash="0" * 64):
    return model.Key(value, request_hash)


def only(*revisions):
    return model.Condition(match=frozenset(revisions))


CREATE_ONLY = model.Condition(none_match=frozenset("*"))


def test_what_is_created_is_read_back(store):
    wanted = todo("quotes ' \" \\ % %s ; -- 🌱\t\n é", status="wip")
    created = store.todos.create(wanted)
    found = store.todos.get("a", wanted.id)
    assert not created.replayed
    assert created.body == found.document() == wanted.document()
    assert found.epoch == 1
    assert (created.id, created.revision) == (found.id, found.revision)


def test_the_longest_task_is_kept(store):
    for character in ('"', "\\", "'", "🌱", "\n"):
        wanted = todo(character * model.MAX_TASK)
        store.todos.create(wanted, key(f"k{ord(character)}"))
        assert store.todos.get("a", wanted.id).task == wanted.task


def test_another_tenant_sees_nothing(store):
    mine = todo()
    store.todos.create(mine)
    with pytest.raises(errors.NotFound):
        store.todos.get("b", mine.id)
    with pytest.raises(errors.NotFound):
        store.todos.patch("b", mine.id, model.Changes(status="done"), stamp(), ANY)
    with pytest.raises(errors.NotFound):
        store.todos.delete("b", mine.id, ANY)
    assert store.todos.page("b", None, "", 10) == []
    theirs, is_new = store.todos.put("b", mine.id, model.Changes("theirs", "todo"), stamp(), ANY)
    assert is_new
    assert theirs.task == "theirs"
    assert store.todos.get("a", mine.id).document() == mine.document()


def test_pages_follow_the_ids_and_the_filter(store):
    ids = [new_id() for _ in range(7)]
    for index, todo_id in enumerate(ids):
        store.todos.create(todo(status=model.STATUSES[index % 2], todo_id=todo_id))
    store.todos.create(todo(tenant="b"))

    def page(status, after, limit):
        return [row.id for row in store.todos.page("a", status, after, limit)]

    assert page(None, "", 100) == ids
    assert page(None, "", 3) == ids[:3]
    assert page(None, ids[2], 3) == ids[3:6]
    assert page("todo", "", 3) == ids[0:6:2]
    assert page("todo", ids[4], 3) == ids[6:]
    assert page("done", "", 3) == []


def test_a_key_gives_the_first_answer_again(store):
    first = todo()
    store.todos.create(first, key())
    again = store.todos.create(todo(), key())
    assert again.replayed
    assert again.body == first.document()
    assert len(store.todos.page("a", None, "", 10)) == 1
    store.todos.delete("a", first.id, ANY)
    assert store.todos.create(todo(), key()).body == first.document()


def test_a_key_with_another_payload_is_refused(store):
    store.todos.create(todo(), key())
    with pytest.raises(errors.KeyReused):
        store.todos.create(todo(), key(request_hash="1" * 64))
    assert len(store.todos.page("a", None, "", 10)) == 1


def test_a_key_belongs_to_its_tenant(store):
    store.todos.create(todo(), key())
    assert not store.todos.create(todo(tenant="b"), key()).replayed


def test_an_expired_key_may_be_used_again(store):
    store.todos.create(todo(), key())
    in_time = NOW + repository.KEY_LIFETIME
    assert store.todos.create(todo(at=in_time), key()).replayed
    late = todo(at=in_time + timedelta(seconds=1))
    assert not store.todos.create(late, key(request_hash="1" * 64)).replayed
    assert len(store.todos.page("a", None, "", 10)) == 2


def test_put_creates_then_replaces(store):
    todo_id = new_id()
    created, is_new = store.todos.put("a", todo_id, model.Changes("one", "wip"), stamp(NOW), ANY)
    assert is_new
    later = stamp()
    row, is_new = store.todos.put("a", todo_id, model.Changes("two", "todo"), later, ANY)
    assert not is_new
    assert (row.task, row.status, row.revision) == ("two", "todo", later.revision)
    assert (row.created_at, row.updated_at) == (created.created_at, later.now)
    assert store.todos.get("a", todo_id) == row


def test_put_obeys_its_conditions(store):
    todo_id = new_id()
    with pytest.raises(errors.PreconditionFailed):
        store.todos.put("a", todo_id, model.Changes("x", "todo"), stamp(), only("*"))
    first, _ = store.todos.put("a", todo_id, model.Changes("x", "todo"), stamp(), CREATE_ONLY)
    with pytest.raises(errors.PreconditionFailed):
        store.todos.put("a", todo_id, model.Changes("y", "todo"), stamp(), CREATE_ONLY)
    with pytest.raises(errors.PreconditionFailed):
        store.todos.put("a", todo_id, model.Changes("y", "todo"), stamp(), only("0" * 32))
    store.todos.put("a", todo_id, model.Changes("y", "todo"), stamp(), only(first.revision))
    assert store.todos.get("a", todo_id).task == "y"


def test_patch_changes_what_it_names(store):
    row = todo()
    store.todos.create(row)
    with pytest.raises(errors.PreconditionFailed):
        store.todos.patch("a", row.id, model.Changes(status="done"), stamp(), only("0" * 32))
    done = store.todos.patch("a", row.id, model.Changes(status="done"), stamp(), only(row.revision))
    assert (done.task, done.status) == (row.task, "done")
    renamed = store.todos.patch("a", row.id, model.Changes(task="new"), stamp(), ANY)
    assert (renamed.task, renamed.status) == ("new", "done")
    assert len({row.revision, done.revision, renamed.revision}) == 3
    assert store.todos.get("a", row.id) == renamed


def test_delete_obeys_its_condition(store):
    row = todo()
    store.todos.create(row)
    with pytest.raises(errors.PreconditionFailed):
        store.todos.delete("a", row.id, only("0" * 32))
    store.todos.delete("a", row.id, only("other", row.revision))
    with pytest.raises(errors.NotFound):
        store.todos.delete("a", row.id, ANY)


def test_a_closed_fence_stops_writes_and_no_reads(store):
    row = todo()
    store.todos.create(row, key())
    store.operator.set_fence(fence.Fence(1, EAST, fence.DRAINING), NOW)
    writes = (
        lambda: store.todos.create(todo(), key("key-2")),
        lambda: store.todos.put("a", row.id, model.Changes("x", "todo"), stamp(), ANY),
        lambda: store.todos.patch("a", row.id, model.Changes("x"), stamp(), ANY),
        lambda: store.todos.delete("a", row.id, ANY),
    )
    for write in writes:
        with pytest.raises(errors.WriteRefused) as refused:
            write()
        assert refused.value.extra["applied"] == "no"
        assert refused.value.headers["Retry-After"] == "1"
    assert store.todos.get("a", row.id).document() == row.document()
    assert len(store.todos.page("a", None, "", 10)) == 1
    store.operator.set_fence(fence.Fence(2, EAST, fence.OPEN), NOW)
    store.todos.create(todo(todo_id=new_id()), key("key-2"))
    assert [r.epoch for r in store.todos.page("a", None, "", 10)] == [1, 2]


def test_the_fence_is_set_once_and_again(store):
    wanted = fence.Fence(1, EAST, fence.DRAINING)
    for _ in range(2):
        stored = store.operator.set_fence(wanted, NOW)
        assert stored == store.operator.fence() == fence.Fence(1, EAST, fence.DRAINING, NOW)
    with pytest.raises(errors.FenceConflict) as refused:
        store.operator.set_fence(fence.Fence(1, EAST, fence.OPEN), NOW)
    assert refused.value.extra["fence"]["state"] == "draining"
    assert store.operator.fence().state == fence.DRAINING


def test_depth_says_whether_this_region_may_write(store):
    assert store.operator.depth()["writable"] is True
    store.operator.set_fence(fence.Fence(1, EAST, fence.DRAINING), NOW)
    depth = store.operator.depth()
    assert depth["writable"] is False
    assert depth["readable"] is True
    assert depth["writer"]["ok"] is True
    assert depth["fence"]["state"] == "draining"
