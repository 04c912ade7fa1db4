"""Unplanned failover of real databases: what is lost is counted, kept, and can be put back."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pymysql
import pytest
from aurora_support import (
    EAST,
    GLOBAL,
    INSERT,
    WEST,
    World,
    cluster_arn,
    make_world,
    running,
    until,
)
from botocore.exceptions import ClientError

from lab.aurora import lost
from lab.aurora.files import AuroraFiles

DELAY = 0.064


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path)
    world.deployment.save(world.paths.deployment)
    world.settings.save(world.paths.settings)
    with running(world) as world:
        yield world


def write(world: World, region: str, *rows: str) -> None:
    with world.connect(region) as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(INSERT, (row, f"task of {row}"))


def write_until_killed(world: World, rows: int) -> set[str]:
    """Four writers, until the server is killed under them; what was acknowledged."""
    acknowledged: set[str] = set()

    def writer(name: int) -> None:
        connection, number = world.connect(EAST), 0
        try:
            with connection.cursor() as cursor:
                while True:
                    row = f"{name}-{number:05}"
                    cursor.execute(INSERT, (row, "x"))
                    acknowledged.add(row)
                    number += 1
        except pymysql.MySQLError:
            connection.close()

    threads = [threading.Thread(target=writer, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) > rows)
    world.kill_server(EAST)
    for thread in threads:
        thread.join(10)
    return acknowledged


def recover(world: World, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """`python -m lab.aurora.lost`: exit code, the lines that it wrote, and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = lost.main(["--lab-dir", str(world.paths.root), *arguments])
    return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def restart_old_primary(world: World) -> None:
    world.start_server(EAST)
    world.settled(WEST, WEST)
    world.caught_up(WEST, EAST)


def test_loss_is_counted_exactly_kept_and_put_back(world: World) -> None:
    world.fault(WEST, delay_seconds=DELAY)
    acknowledged = write_until_killed(world, 300)
    began = time.monotonic()
    world.failover(WEST)
    print(f"failover after {time.monotonic() - began:.3f} s")
    write(world, WEST, "after")
    members = world.global_cluster(WEST)["GlobalClusterMembers"]
    assert {m["DBClusterArn"]: (m["IsWriter"], m["SynchronizationStatus"]) for m in members} == {
        cluster_arn(EAST): (False, "pending-resync"),
        cluster_arn(WEST): (True, "connected"),
    }
    survived = world.ids(WEST)
    lost_rows = acknowledged - survived
    print(f"{len(lost_rows)} of {len(acknowledged)} acknowledged rows lost")
    assert lost_rows

    restart_old_primary(world)
    assert world.ids(EAST) == survived
    (snapshot,) = world.boto("rds", EAST).describe_db_cluster_snapshots()["DBClusterSnapshots"]
    name = snapshot["DBClusterSnapshotIdentifier"]
    assert name.startswith(f"rds:unplanned-global-failover-todo-{EAST}-20")

    code, found, said = recover(world)
    assert code == 0
    # a commit whose acknowledgement was cut off is in the volume all the same
    assert {d["key"]["id"] for d in found if d["kind"] == "missing"} >= lost_rows
    assert {d["key"]["id"] for d in found if d["kind"] == "missing"}.isdisjoint(survived)
    assert {d["kind"] for d in found} == {"missing"}
    assert f"{name}: {len(found)} missing, 0 different, 0 deleted" in said

    one = min(lost_rows)
    assert recover(world, "--reinsert", one)[0] == 0
    assert world.ids(WEST) == survived | {one}
    code, _, said = recover(world, "--snapshot", name, "--reinsert", "all")
    assert (code, f"{len(found) - 1} rows written" in said) == (0, True)
    assert world.ids(WEST) >= acknowledged
    assert recover(world)[1] == []

    world.switchover(WEST, EAST)  # the way back
    write(world, EAST, "back home")
    assert world.rds_events() == [
        "0391",
        "0238",
        "0240",
        "0241",
        "0181",
        "0182",
        "0183",
        "0184",
        "0185",
    ]


def test_rows_that_differ_and_deletes_that_were_lost_are_told_apart(world: World) -> None:
    write(world, EAST, "same", "updated", "removed")
    world.caught_up(EAST, WEST)
    world.fault(WEST, cut=True)
    until(lambda: not world.parts[WEST].status()["link"]["connections"])
    with world.connect(EAST) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE todo SET task = 'in the old region' WHERE id = 'updated'")
        cursor.execute("DELETE FROM todo WHERE id = 'removed'")
    write(world, EAST, "new")
    world.kill_server(EAST)
    world.failover(WEST)
    world.fault(WEST, cut=False)
    write(world, WEST, "of the new primary")
    restart_old_primary(world)
    _, found, said = recover(world)
    assert {d["key"]["id"]: d["kind"] for d in found} == {
        "new": "missing",
        "updated": "different",
        "removed": "deleted",
    }
    assert "1 missing, 1 different, 1 deleted" in said
    different = next(d for d in found if d["kind"] == "different")
    assert different["lost"]["task"] == "in the old region"
    assert different["serving"]["task"] == "task of updated"
    code, _, said = recover(world, "--reinsert", "same")
    assert (code, said.splitlines()[-1:]) == (2, ["no such difference: same"])
    assert recover(world, "--overwrite", "updated")[0] == 0
    assert [d["kind"] for d in recover(world)[1]] == ["missing", "deleted"]  # in order of the keys
    assert recover(world, "--snapshot", "rds:other")[0] == 2


def test_isolated_primary_goes_on_writing_until_it_is_heard_of_again(world: World) -> None:
    """Split brain, as AWS warns; then the old volume is kept and replaced."""
    world.fault(EAST, cut=True)
    until(lambda: not world.parts[WEST].status()["link"]["connections"])
    world.failover(WEST)
    assert "0391" in world.rds_events()  # it could not be fenced
    isolated = world.connect(EAST)
    with isolated.cursor() as cursor:
        cursor.execute(INSERT, ("isolated", "x"))
    write(world, WEST, "serving")
    assert world.ids(EAST) == {"isolated"}
    assert world.ids(WEST) == {"serving"}
    world.fault(EAST, cut=False)
    world.settled(WEST, WEST)
    with isolated.cursor() as cursor, pytest.raises(pymysql.MySQLError):
        cursor.execute(INSERT, ("too late", "x"))
    isolated.close()
    world.caught_up(WEST, EAST)
    assert world.ids(EAST) == {"serving"}
    assert [d["key"]["id"] for d in recover(world)[1]] == ["isolated"]


def test_hung_primary_is_given_up_in_time_and_fenced_when_it_wakes(world: World) -> None:
    write(world, EAST, "before")
    world.caught_up(EAST, WEST)
    world.server(EAST).signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        world.failover(WEST)
        assert time.monotonic() - began < 8
        write(world, WEST, "after")
    finally:
        world.server(EAST).signal(signal.SIGCONT)
    world.settled(WEST, WEST)
    world.caught_up(WEST, EAST)
    assert world.ids(EAST) == {"before", "after"}


def test_reachable_primary_is_fenced(world: World) -> None:
    """A failover while all is well: Aurora fences the old primary first."""
    connection = world.connect(EAST)
    world.failover(WEST)
    assert "0390" in world.rds_events()
    with connection.cursor() as cursor, pytest.raises(pymysql.MySQLError):
        cursor.execute(INSERT, ("fenced", "x"))
    connection.close()
    world.settled(WEST, WEST)


GRANTS = "SHOW GRANTS FOR 'installer'@'localhost'"


def test_users_and_rotated_passwords_come_with_the_new_volume(world: World) -> None:
    world.kill_server(EAST)
    world.failover(WEST)
    with world.connect(WEST, user="admin") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER 'later'@'%' IDENTIFIED BY 'of-the-new-primary'")
        cursor.execute("GRANT SELECT ON todo.* TO 'later'@'%'")
        cursor.execute("CREATE DATABASE second")
    arn = "todo/application"
    world.loops[WEST].run(world.parts[WEST].rotate_password(arn))
    restart_old_primary(world)
    world.connect(EAST, reader=True).close()
    world.connect(EAST, reader=True, user="admin").close()
    connection = pymysql.connect(
        host=world.address(EAST),
        port=3317,
        user="later",
        password="of-the-new-primary",
        database="todo",
        ssl_disabled=True,
    )
    connection.close()
    assert ("second",) in world.direct(EAST, "SHOW DATABASES")


def test_the_account_of_whoever_installed_the_server_stays_its_own(world: World) -> None:
    """mariadb-install-db makes it, for any user but root, with a right that nobody can grant again:
    so it was as good as impossible to get back, on a lab that root had not started."""
    for statement in (
        "CREATE USER 'installer'@'localhost'",
        "INSERT INTO mysql.proxies_priv"
        " VALUES ('localhost', 'installer', '%', '', 1, '', NOW())",
        "FLUSH PRIVILEGES",
    ):
        world.direct(EAST, statement)
    world.caught_up(EAST, WEST)
    assert any("PROXY" in grant for (grant,) in world.direct(WEST, GRANTS))
    world.kill_server(EAST)
    world.failover(WEST)
    write(world, WEST, "after")

    restart_old_primary(world)

    world.caught_up(WEST, EAST)
    assert world.ids(EAST) == {"after"}
    assert any("PROXY" in grant for (grant,) in world.direct(EAST, GRANTS))


def test_volume_pending_resync_can_be_no_target(world: World) -> None:
    world.kill_server(EAST)
    world.failover(WEST)
    rds = world.boto("rds", EAST)
    with pytest.raises(ClientError) as refusal:
        rds.failover_global_cluster(
            GlobalClusterIdentifier=GLOBAL,
            TargetDbClusterIdentifier=cluster_arn(EAST),
            AllowDataLoss=True,
        )
    assert refusal.value.response["Error"]["Code"] == "InvalidDBClusterStateFault"
    with pytest.raises(ClientError) as refusal:
        world.boto("rds", WEST).switchover_global_cluster(
            GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(EAST)
        )
    assert refusal.value.response["Error"]["Code"] == "InvalidGlobalClusterStateFault"
    assert "pending-resync" in refusal.value.response["Error"]["Message"]


def test_rebuilding_that_is_interrupted_begins_again_with_the_snapshot_that_was_kept(
    world: World,
) -> None:
    write(world, EAST, "replicated")
    world.caught_up(EAST, WEST)
    world.fault(WEST, cut=True)
    until(lambda: not world.parts[WEST].status()["link"]["connections"])
    write(world, EAST, "lost")
    world.kill_server(EAST)
    world.failover(WEST)
    world.fault(WEST, cut=False)
    write(world, WEST, "serving")
    world.start_server(EAST)
    until(lambda: any(e["kind"] == "snapshot_kept" for e in world.events))
    world.kill_server(EAST)  # in the middle of being replaced
    world.start_server(EAST)
    world.settled(WEST, WEST)
    world.caught_up(WEST, EAST)
    assert world.ids(EAST) == {"replicated", "serving"}
    assert [d["key"]["id"] for d in recover(world)[1]] == ["lost"]


def test_files_that_no_table_owns_do_not_stop_the_rebuilding(world: World) -> None:
    """What kill -9 leaves when it hits a DROP TABLE."""
    world.kill_server(EAST)
    world.failover(WEST)
    (AuroraFiles(world.paths).data(EAST) / "todo" / "orphan.ibd").write_bytes(bytes(65536))
    restart_old_primary(world)
    with world.connect(WEST, user="admin") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orphan (id INT PRIMARY KEY)")
    world.caught_up(WEST, EAST)
    assert ("orphan",) in world.direct(EAST, "SHOW TABLES FROM todo")
