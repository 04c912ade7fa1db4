"""Two real MariaDB servers behind the proxies: replication, accounts, what a connection gets."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from aurora_support import (
    EAST,
    INSERT,
    REGIONS,
    WEST,
    World,
    make_world,
    running,
    secret_arn,
    until,
)

from lab.aurora.sql import Server

NO_WRITER = "The target group doesn't have any associated read/write instances"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("lab"), borrow_timeout=1)) as world:
        yield world


def execute(connection: pymysql.Connection, statement: str, *values: object) -> list[object]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def test_what_is_written_in_the_primary_is_read_in_the_other_region(world: World) -> None:
    with world.connect(EAST) as connection:
        execute(connection, INSERT, "replicated", "héllo 🦆")
    world.caught_up(EAST, WEST)
    with world.connect(WEST, reader=True) as connection:
        assert execute(connection, "SELECT task FROM todo WHERE id = 'replicated'") == [
            ("héllo 🦆",)
        ]


def test_read_write_endpoint_of_the_passive_region_refuses_in_aws_words(world: World) -> None:
    began = time.monotonic()
    with pytest.raises(pymysql.OperationalError) as refusal:
        world.connect(WEST)
    assert refusal.value.args == (1105, NO_WRITER)
    assert time.monotonic() - began < 0.9  # at once, not after the borrow time-out of 1 s


def test_read_only_endpoint_of_the_passive_region_refuses_writes(world: World) -> None:
    with (
        world.connect(WEST, reader=True) as connection,
        pytest.raises(pymysql.OperationalError) as refusal,
    ):
        execute(connection, INSERT, "never", "x")
    assert refusal.value.args[0] == 1290


def test_both_endpoints_of_the_primary_answer(world: World) -> None:
    for reader in (False, True):
        with world.connect(EAST, reader=reader) as connection:
            assert execute(connection, "SELECT @@read_only") == [(0,)]


def test_tls_is_from_end_to_end_and_required(world: World) -> None:
    with world.connect(EAST) as connection:
        (row,) = execute(connection, "SHOW SESSION STATUS LIKE 'Ssl_version'")
        assert row in [("Ssl_version", "TLSv1.3"), ("Ssl_version", "TLSv1.2")]
    for user in ("application", "admin"):
        with pytest.raises(pymysql.OperationalError) as refusal:
            world.connect(EAST, user=user, ssl=None, ssl_disabled=True)
        assert refusal.value.args[0] == 1045


def test_certificate_carries_the_proxys_host_names(world: World) -> None:
    from cryptography import x509

    for region in REGIONS:
        certificate = x509.load_pem_x509_certificate(world.paths.certificate(region).read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
        assert f"todo-{region}.proxy-abcdef012345.{region}.rds.amazonaws.com" in hosts
        assert f"reader.endpoint.proxy-abcdef012345.{region}.rds.amazonaws.com" in hosts


def test_application_has_four_rights_and_the_administrator_no_super(world: World) -> None:
    with world.connect(EAST) as connection:
        for statement in ("CREATE TABLE other (id INT)", "DROP TABLE todo",
                          "SET GLOBAL read_only = 0", "SELECT * FROM mysql.global_priv"):
            with pytest.raises(pymysql.MySQLError) as refusal:
                execute(connection, statement)
            assert refusal.value.args[0] in (1142, 1227)
    with world.connect(EAST, user="admin") as connection:
        execute(connection, "CREATE TABLE made (id INT PRIMARY KEY)")
        execute(connection, "DROP TABLE made")
        name, password = world.login("application")
        execute(connection, "CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", name, password)
        execute(connection, "ALTER USER %s@'%%' IDENTIFIED BY %s", name, password)
        execute(connection, "GRANT SELECT, INSERT, UPDATE, DELETE ON todo.* TO %s@'%%'", name)
        with pytest.raises(pymysql.OperationalError) as refusal:
            execute(connection, "SET GLOBAL read_only = 0")
        assert refusal.value.args[0] == 1227


def test_tls_stays_required_after_a_migration_has_set_the_password_again(world: World) -> None:
    with world.connect(EAST, user="admin") as connection:
        name, password = world.login("application")
        execute(connection, "ALTER USER %s@'%%' IDENTIFIED BY %s", name, password)
    with pytest.raises(pymysql.OperationalError) as refusal:
        world.connect(EAST, ssl=None, ssl_disabled=True)
    assert refusal.value.args[0] == 1045


def test_durable_and_strict_as_promised(world: World) -> None:
    for region in REGIONS:
        (row,) = world.direct(
            region,
            "SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@gtid_strict_mode,"
            " @@log_slave_updates, @@binlog_format, @@slave_parallel_threads, @@time_zone,"
            " @@innodb_lock_wait_timeout",
        )
        assert row == (1, 1, 1, 1, "ROW", 4, "+00:00", 3)  # the last: of the parameter group


def test_a_server_that_starts_leaves_the_temporary_tables_of_others(world: World) -> None:
    folders = {region: Path(world.direct(region, "SELECT @@tmpdir")[0][0]) for region in REGIONS}
    assert len({*folders.values(), Path(tempfile.gettempdir())}) == 3
    with world.connect(EAST, user="admin") as connection:
        execute(connection, "CREATE TEMPORARY TABLE todo.own (id INT) ENGINE=Aria")
        before = sorted(folders[EAST].iterdir())
        assert before
        world.kill_server(WEST)
        world.start_server(WEST)
        world.settled(EAST, EAST)
        assert sorted(folders[EAST].iterdir()) == before


def test_memory_of_each_server_is_small(world: World) -> None:
    for region in REGIONS:
        status = Path(f"/proc/{world.server(region).pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        assert int(line.split()[1]) < 90 * 1024


def test_secrets_on_disk_are_for_this_user_alone(world: World) -> None:
    kept = [*(world.paths.root / "state").iterdir()]
    private = [p for p in kept if "accounts" in p.name or "init" in p.name]
    assert len(private) == 2
    assert {p.stat().st_mode & 0o777 for p in private} == {0o600}
    command = Path(f"/proc/{world.server(EAST).pid}/cmdline").read_text()
    assert not any(world.login(user)[1] in command for user in ("application", "admin"))


def test_hung_server_ends_in_the_borrow_time_out(world: World) -> None:
    open_before = world.connect(EAST)
    world.server(EAST).signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(pymysql.OperationalError) as refusal:
            world.connect(EAST)
        waited = time.monotonic() - began
        assert refusal.value.args == (9501, "Timed-out waiting to acquire database connection")
        assert 0.9 < waited < 4.5  # not the client's own 5 s
    finally:
        world.server(EAST).signal(signal.SIGCONT)
    assert execute(open_before, "SELECT 1") == [(1,)]
    open_before.close()
    until(lambda: world.parts[EAST].status()["reachable"])


def test_dead_server_ends_in_the_borrow_time_out_and_recovers_with_its_data(world: World) -> None:
    with world.connect(EAST) as connection:
        execute(connection, INSERT, "durable", "x")
    world.kill_server(EAST)
    with pytest.raises(pymysql.OperationalError) as refusal:
        world.connect(EAST)
    assert refusal.value.args[0] == 9501
    world.start_server(EAST)
    until(lambda: world.parts[EAST].status()["reachable"])
    with world.connect(EAST) as connection:  # read-only until its agent has looked
        execute(connection, INSERT, "after", "x")
        assert execute(connection, "SELECT COUNT(*) FROM todo WHERE id = 'durable'") == [(1,)]
    until(lambda: {"durable", "after"} <= world.ids(WEST))


def test_data_survives_a_clean_stop_of_everything(world: World) -> None:
    with world.connect(EAST) as connection:
        execute(connection, INSERT, "kept", "x")
    for region in REGIONS:
        world.stop(region)
    world.processes.stop(world.processes.alive())
    for region in REGIONS:
        world.start_server(region)
        world.start(region)
    with world.connect(EAST) as connection:
        execute(connection, INSERT, "kept too", "x")
    until(lambda: {"kept", "kept too"} <= world.ids(WEST))


def test_rotated_password_is_in_the_secret_and_in_both_servers(world: World) -> None:
    _, old = world.login("application")
    kept = world.connect(EAST)
    world.loops[EAST].run(world.parts[EAST].rotate_password(secret_arn("application")))
    _, new = world.login("application")
    assert new != old
    world.connect(EAST).close()
    world.caught_up(EAST, WEST)
    world.connect(WEST, reader=True).close()
    with pytest.raises(pymysql.OperationalError) as refusal:
        world.connect(EAST, password=old)
    assert refusal.value.args[0] == 1045
    assert execute(kept, "SELECT 1") == [(1,)]  # a login is checked once
    kept.close()


def test_password_is_rotated_in_the_writers_region_only(world: World) -> None:
    with pytest.raises(Exception, match="is not the writer"):
        world.loops[WEST].run(
            world.parts[WEST].rotate_password(secret_arn("application", WEST))
        )


def test_delay_and_cut_of_the_replication_link(world: World) -> None:
    world.fault(WEST, delay_seconds=0.3)
    with world.connect(EAST) as connection:
        execute(connection, INSERT, "late", "x")
        began = time.monotonic()
    until(lambda: "late" in world.ids(WEST))
    assert time.monotonic() - began > 0.2
    world.fault(EAST, cut=True)  # whichever region is told
    until(lambda: not world.parts[WEST].status()["link"]["connections"])
    with world.connect(EAST) as connection:
        execute(connection, INSERT, "cut", "x")
    until(lambda: not world.parts[WEST].status()["replication"]["running"])
    assert "cut" not in world.ids(WEST)
    world.fault(EAST, cut=False)
    world.fault(WEST, delay_seconds=0.0)
    until(lambda: "cut" in world.ids(WEST))


def test_many_rows_keep_their_order_across_the_delay(world: World) -> None:
    world.fault(WEST, delay_seconds=0.05)
    with world.connect(EAST) as connection:
        for number in range(60):
            execute(connection, INSERT, f"order-{number:03}", "x" * 1500)
    world.caught_up(EAST, WEST)
    assert world.ids(WEST) == world.ids(EAST)
    admin = Server(world.address(WEST), 3306, world.parts[WEST]._around.admin)
    assert not admin.replication().diverged
    admin.close()
    world.fault(WEST, delay_seconds=0.0)
