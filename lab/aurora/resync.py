"""A lost volume: kept as a snapshot, then replaced by a copy of the writer's.

After an unplanned failover the old primary may hold writes that nobody else has, so it can never be
a replica again as it is. Aurora tries to take a snapshot of it, named
`rds:unplanned-global-failover-<cluster>-<time>`, and adds it to the global database again with a
new volume (user guide, managed failovers). Here: a dump of its databases, then its databases and
the template's users are dropped and copied from the writer, with the writer's GTID position.

Downside: a logical copy takes time with the number of rows, and while it runs the region cannot be
read. What the administrator set on the server itself (not in a database or a user) is not copied.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab.aurora.accounts import LAB_ADMIN, REPLICATION
from lab.aurora.errors import AuroraError, SqlFailed
from lab.aurora.server import find, identifier
from lab.aurora.sql import Server
from lab.aurora.state import Snapshot

DUMP = "dump.sql"
DESCRIPTION = "snapshot.json"
_DUMP_SECONDS = 600.0
_ERROR_DIRECTORY_NOT_EMPTY = 1010
_SYSTEM_USERS = (LAB_ADMIN, REPLICATION, "root", "mysql", "mariadb.sys", "")


def snapshot_identifier(cluster: str, since: float) -> str:
    """The name that Aurora gives; `since` in epoch seconds."""
    when = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(since))
    return f"rds:unplanned-global-failover-{cluster}-{when}"


def take_snapshot(server: Server, folder: Path, snapshot: Snapshot) -> None:
    """Dump all databases of a server into `folder`, whole or not at all. Raises AuroraError."""
    target = folder / snapshot.folder
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = target / (DUMP + ".partial")
    with partial.open("wb") as file:
        _run([*_dump_argv(server), "--databases", *server.databases()], server, stdout=file)
    description = {
        "identifier": snapshot.identifier,
        "region": snapshot.region,
        "created": snapshot.created,
        "gtid_position": server.position(),
    }
    (target / DESCRIPTION).write_text(json.dumps(description, indent=1))
    partial.replace(target / DUMP)


def reseed(target: Server, source: Server, data: Path) -> None:
    """Replace all that `target` holds by what `source` holds now. Raises AuroraError.

    `target` must write no binary log (`logged=False`); `data` is its data directory. Afterwards its
    GTID position is that of the copy, and its own binary log is empty.
    """
    target.query("SET GLOBAL read_only = ON")
    target.stop_following()
    for name in target.databases():
        _drop_database(target, name, data)
    target.query("RESET MASTER")
    target.query("SET GLOBAL gtid_slave_pos = ''")
    _copy_users(target, source)
    dump = [*_dump_argv(source), "--master-data=1", "--gtid", "--databases", *source.databases()]
    load = [
        find("mariadb"), "--no-defaults", "--batch", f"--host={target.address}",
        f"--port={target.port}", f"--user={target.login.username}", "--protocol=tcp",
        "--skip-ssl", "--skip-reconnect", "--init-command=SET sql_log_bin = 0",
    ]
    with subprocess.Popen(
        dump, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(source)
    ) as dumping:
        assert dumping.stderr is not None
        try:
            _run(load, target, stdin=dumping.stdout)
        finally:
            if dumping.stdout is not None:
                dumping.stdout.close()
        message = dumping.stderr.read().decode(errors="replace")
    if dumping.returncode:
        raise AuroraError(f"mariadb-dump of {source.address}: {message[-500:]}")
    if not target.query("SELECT @@GLOBAL.gtid_slave_pos AS v")[0]["v"] and source.position():
        raise SqlFailed("the copy came without its position")


def _drop_database(target: Server, name: str, data: Path) -> None:
    """Also one whose dropping was cut off by kill -9, which leaves files that no table owns."""
    try:
        target.query(f"DROP DATABASE {identifier(name)}")
    except SqlFailed as error:
        if error.number != _ERROR_DIRECTORY_NOT_EMPTY:
            raise
        for orphan in (data / name).glob("*.ibd"):
            table = f"{identifier(name)}.{identifier(orphan.stem)}"
            target.query(f"DROP TABLE IF EXISTS {table}")  # if InnoDB itself still knows it
            orphan.unlink(missing_ok=True)
        target.query(f"DROP DATABASE IF EXISTS {identifier(name)}")


def _copy_users(target: Server, source: Server) -> None:
    """The users that are not the lab's own, with their rights."""
    for user, host in _users(target):
        target.query("DROP USER IF EXISTS %s@%s", user, host)
    for user, host in _users(source):
        statements = source.query("SHOW CREATE USER %s@%s", user, host)
        statements += source.query("SHOW GRANTS FOR %s@%s", user, host)
        for row in statements:
            (statement,) = row.values()
            target.query(statement)


def _users(server: Server) -> list[tuple[str, str]]:
    """Those at localhost are the server's own: its installation makes one for whoever installs,
    with a right (PROXY) that the lab's administrator has not and so cannot grant again."""
    rows = server.query(
        "SELECT User AS u, Host AS h FROM mysql.global_priv WHERE Host <> 'localhost'"
        " ORDER BY u, h"
    )
    return [(r["u"], r["h"]) for r in rows if r["u"] not in _SYSTEM_USERS]


def _dump_argv(server: Server) -> list[str]:
    return [
        find("mariadb-dump"), "--no-defaults", f"--host={server.address}",
        f"--port={server.port}", f"--user={server.login.username}", "--protocol=tcp",
        "--skip-ssl", "--single-transaction", "--hex-blob", "--routines", "--triggers", "--events",
        "--skip-comments",
    ]


def _run(
    argv: Sequence[str], server: Server, stdin: object = subprocess.DEVNULL, stdout: object = None
) -> None:
    done = subprocess.run(
        argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=_environment(server),  # type: ignore[call-overload]
        timeout=_DUMP_SECONDS, check=False,
    )
    if done.returncode:
        message = done.stderr.decode(errors="replace")[-500:]
        raise AuroraError(f"{Path(argv[0]).name} on {server.address}: {message}")


def _environment(server: Server) -> dict[str, str]:
    """The password goes by the environment: an argument could be read by every user."""
    return {**os.environ, "MYSQL_PWD": server.login.password}
