"""The MariaDB servers: found on this machine, given a data directory, and how they are started.

One server per region stands for that region's Aurora cluster. Every option is on the command line
(`--no-defaults`), so nothing of a server that this machine runs otherwise is read or touched; the
server listens on the region's loopback address only and on no Unix socket.

Downside: MariaDB is not Aurora. It replicates statements' row changes through a binary log where
Aurora replicates storage, and its messages name another product. Error numbers are the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.aurora.accounts import Accounts, AccountsFile, Login, write_private
from lab.aurora.errors import AuroraError
from lab.aurora.files import AuroraFiles
from lab.aurora.layout import SERVER_PORT, Layout, read_layout, server_id
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import Settings

PACKAGES = "mariadb-server and mariadb-client (Debian: apt-get install --no-install-recommends)"
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")
_STORAGE = (
    "--innodb-log-file-size=16M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-use-native-aio=0",
)
"""The same when a data directory is made and when it is used."""
_OPTIONS = (
    *_STORAGE,
    # what one small lab needs, in memory and threads
    "--innodb-log-buffer-size=2M",
    "--innodb-read-io-threads=1",
    "--innodb-write-io-threads=2",
    "--innodb-purge-threads=1",
    "--key-buffer-size=64K",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=OFF",
    "--query-cache-type=OFF",
    "--query-cache-size=0",
    "--table-open-cache=200",
    "--table-definition-cache=400",
    "--thread-cache-size=8",
    "--max-connections=200",
    "--max-connect-errors=1000000",
    "--max-allowed-packet=16M",
    # durable: an acknowledged commit survives kill -9, with its place in the binary log
    "--innodb-flush-log-at-trx-commit=1",
    "--sync-binlog=1",
    # replication, in either direction
    "--log-bin=binlog",
    "--log-slave-updates=ON",
    "--binlog-format=ROW",
    "--gtid-strict-mode=ON",
    "--binlog-expire-logs-seconds=604800",
    "--max-binlog-size=64M",
    "--relay-log=relay",
    "--relay-log-recovery=ON",
    "--skip-slave-start",
    "--slave-parallel-threads=4",
    "--slave-parallel-mode=optimistic",
    "--slave-net-timeout=4",
    # nobody writes until the region's process has read who the writer is
    "--read-only=ON",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--default-time-zone=+00:00",
    "--skip-name-resolve",
    "--local-infile=OFF",
    "--socket=",
)
_APPLICATION_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
_ADMINISTRATOR_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER, REFERENCES, CREATE VIEW,"
    " SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, EVENT, TRIGGER, LOCK TABLES,"
    " CREATE TEMPORARY TABLES, CREATE USER, RELOAD, PROCESS, SHOW DATABASES, BINLOG MONITOR"
)
"""As Aurora's master user: DDL and users, but neither SUPER nor READ ONLY ADMIN."""


def find(program: str) -> str:
    """The path of one of MariaDB's programs. Raises AuroraError that names the packages."""
    path = os.environ.get("PATH", os.defpath)
    found = shutil.which(program, path=os.pathsep.join((path, *_FOLDERS)))
    if found is None:
        raise AuroraError(f"{program} is not on this machine; install {PACKAGES}")
    return found


def process_name(region: str) -> str:
    """The lab's name for the process of a region's server."""
    return f"db-{region}"


def prepare(paths: LabPaths, settings: Settings, deployment: Deployment) -> None:
    """Make what the servers need and is not there yet: accounts and data directories.

    The regions' certificates (`LabPaths.certificate`) must exist when the servers start; see
    `certificate_names`. Data of an earlier run is kept. Raises AuroraError.
    """
    for program in ("mariadbd", "mariadb-install-db", "mariadb-dump", "mariadb"):
        find(program)
    files = AuroraFiles(paths)
    layout = read_layout(deployment, settings)
    accounts = AccountsFile(files.accounts).ensure(layout)
    write_private(files.init_sql, init_sql(layout, accounts))
    for region in layout.regions:
        make_data_directory(files, files.data(region))


def mariadbd_argv(paths: LabPaths, settings: Settings, region: str) -> list[str]:
    """The command that runs a region's server in the foreground, logging to standard error."""
    files = AuroraFiles(paths)
    certificate = files.certificate(region)
    return [
        *server_argv(files.data(region)),
        *_OPTIONS,
        f"--bind-address={settings.region_address(region)}",
        f"--port={SERVER_PORT}",
        f"--server-id={server_id(settings.regions, region)}",
        f"--init-file={files.init_sql}",
        f"--ssl-ca={files.ca}",
        f"--ssl-cert={certificate}",
        f"--ssl-key={certificate}",
        "--tls-version=TLSv1.2,TLSv1.3",
    ]


def scratch_argv(data: Path, socket: Path) -> list[str]:
    """The command that runs a throw-away server over a data directory, on a Unix socket only."""
    return [
        *server_argv(data),
        *_STORAGE,
        "--performance-schema=OFF",
        "--skip-networking",
        "--skip-grant-tables",
        "--skip-log-bin",
        f"--socket={socket}",
        "--character-set-server=utf8mb4",
        "--default-time-zone=+00:00",
        "--innodb-flush-log-at-trx-commit=0",
        "--max-allowed-packet=16M",
    ]


def server_argv(data: Path) -> list[str]:
    user = ("--user=root",) if os.geteuid() == 0 else ()  # it refuses to be root unasked
    return [find("mariadbd"), "--no-defaults", *user, f"--datadir={data}",
            f"--tmpdir={_temporary(data)}", f"--pid-file={data / 'mariadbd.pid'}"]


def _temporary(data: Path) -> Path:
    """The server's own folder for temporary tables, beside its data; made here. A server that
    starts empties its folder of them. In a shared one, and all that are told nothing share /tmp,
    it takes those of other servers away, and what these were just doing fails."""
    folder = data.with_name(f"{data.name}.tmp")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def make_data_directory(files: AuroraFiles, data: Path) -> None:
    """A new, empty data directory, unless there is one. Copied: making one takes much longer."""
    if data.exists():
        return
    data.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = data.with_name(data.name + ".new")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(_template(files), partial)
    partial.replace(data)


def _template(files: AuroraFiles) -> Path:
    template = files.template(version())
    if template.exists():
        return template
    template.parent.mkdir(parents=True, exist_ok=True)
    partial = template.with_name(f"{template.name}.{os.getpid()}")
    user = ("--user=root",) if os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory(prefix="lab-install-") as temporary:
        argv = [find("mariadb-install-db"), "--no-defaults", *user, f"--datadir={partial}",
                f"--tmpdir={temporary}", "--skip-test-db",
                "--auth-root-authentication-method=socket", *_STORAGE]
        _run(argv, {})
    try:
        partial.replace(template)
    except OSError:  # another lab was faster
        shutil.rmtree(partial)
    return template


def version() -> str:
    """For example "10.11.19". Raises AuroraError for a server that is not MariaDB 10.6 or later."""
    text = _run([find("mariadbd"), "--no-defaults", "--version"], {})
    match = re.search(r"Ver (\d+)\.(\d+)\.(\d+)-MariaDB", text)
    if match is None or (int(match[1]), int(match[2])) < (10, 6):
        raise AuroraError(f"MariaDB 10.6 or later is needed, not: {text.strip()}")
    return ".".join(match.groups())


def _run(argv: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise AuroraError(f"{argv[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def init_sql(layout: Layout, accounts: Accounts) -> str:
    """The statements of every start, one a line. They write no binary log: both servers run them,
    and a change that comes later (a rotated password) is left alone."""
    lines = [
        "SET sql_log_bin = 0;",
        *(f"SET GLOBAL {name} = {value};" for name, value in layout.parameters.items()),
        f"CREATE DATABASE IF NOT EXISTS {identifier(layout.database)};",
    ]
    lines += _user(accounts.admin, "ALL PRIVILEGES ON *.*", option=" WITH GRANT OPTION")
    lines += _user(accounts.replication, "REPLICATION SLAVE ON *.*")
    for secret in layout.secrets:
        login = accounts.values[secret.name].login
        rights, option = f"{_APPLICATION_RIGHTS} ON {identifier(layout.database)}.*", ""
        if secret.administrator:
            rights, option = f"{_ADMINISTRATOR_RIGHTS} ON *.*", " WITH GRANT OPTION"
        lines += _user(login, rights, " REQUIRE SSL", option)
    return "\n".join(lines) + "\n"


def _user(login: Login, rights: str, require: str = "", option: str = "") -> list[str]:
    user = f"{literal(login.username)}@'%'"
    return [
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {literal(login.password)}{require};",
        f"GRANT {rights} TO {user}{option};",
    ]


def literal(text: str) -> str:
    """A string literal. Raises AuroraError for what an init file cannot carry."""
    if "\n" in text or "\0" in text:
        raise AuroraError("a name or password of a secret has a line break or NUL in it")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
