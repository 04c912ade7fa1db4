"""A global database of two regions on real MariaDB servers, without the rest of the lab.

The regions' parts run in an event loop of a thread each, so that tests are plain blocking code.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pymysql
import trustme
import uvloop
from botocore.config import Config
from loopback_networks import free_network

from lab.aurora import (
    API_PORT,
    READER_PORT,
    SERVER_PORT,
    WRITER_PORT,
    GlobalDatabase,
    certificate_names,
    mariadbd_argv,
    prepare,
    process_name,
)
from lab.aurora.accounts import AccountsFile
from lab.aurora.files import AuroraFiles
from lab.model import Deployment, Resource
from lab.paths import LabPaths
from lab.process import Process, ProcessTable
from lab.settings import PROFILES, Network, Settings

EAST, WEST = "us-east-1", "us-west-2"
REGIONS = (EAST, WEST)
ACCOUNT = "111122223333"
GLOBAL = "todo-global"
TABLE = (
    "CREATE TABLE todo (tenant VARCHAR(64) NOT NULL, id CHAR(36) NOT NULL,"
    " task VARCHAR(2000) NOT NULL, updated_at DATETIME(6) NOT NULL, PRIMARY KEY (tenant, id))"
)
INSERT = "INSERT INTO todo VALUES ('a', %s, %s, UTC_TIMESTAMP(6))"


def cluster_arn(region: str) -> str:
    return f"arn:aws:rds:{region}:{ACCOUNT}:cluster:todo-{region}"


def secret_arn(name: str, region: str = EAST) -> str:
    return f"arn:aws:secretsmanager:{region}:{ACCOUNT}:secret:todo/{name}-AbC123"


def deployment(borrow_timeout: float = 3, instances: int = 2) -> Deployment:
    resources = [
        Resource("global-database", EAST, "Global", "AWS::RDS::GlobalCluster", GLOBAL,
                 {"Engine": "aurora-mysql", "EngineVersion": "8.0.mysql_aurora.3.10.1",
                  "StorageEncrypted": True, "DeletionProtection": True}, {}),
    ]
    for name, user in (("application", "todo_app"), ("admin", "todo_admin")):
        rule = {"SecretStringTemplate": json.dumps({"username": user}),
                "GenerateStringKey": "password", "PasswordLength": 40}
        resources.append(
            Resource("secrets", EAST, name.title() + "Secret", "AWS::SecretsManager::Secret",
                     secret_arn(name),
                     {"Name": f"todo/{name}", "GenerateSecretString": rule,
                      "ReplicaRegions": [{"Region": WEST}]}, {"Id": secret_arn(name)})
        )
    for region in REGIONS:
        resources += _regional(region, borrow_timeout, instances)
    return Deployment(tuple(resources), {})


def _regional(region: str, borrow_timeout: float, instances: int) -> list[Resource]:
    stack = f"database-{region}"
    suffix = f"abcdef012345.{region}.rds.amazonaws.com"
    seed = {"DatabaseName": "todo"} if region == EAST else {}
    made = [
        Resource(stack, region, "Cluster", "AWS::RDS::DBCluster", f"todo-{region}",
                 {"GlobalClusterIdentifier": GLOBAL, **seed},
                 {"DBClusterArn": cluster_arn(region),
                  "Endpoint.Address": f"todo-{region}.cluster-{suffix}",
                  "ReadEndpoint.Address": f"todo-{region}.cluster-ro-{suffix}"}),
        Resource(stack, region, "Proxy", "AWS::RDS::DBProxy", f"todo-{region}", {},
                 {"DBProxyArn": f"arn:aws:rds:{region}:{ACCOUNT}:db-proxy:prx-0123",
                  "Endpoint": f"todo-{region}.proxy-{suffix}"}),
        Resource(stack, region, "ReaderEndpoint", "AWS::RDS::DBProxyEndpoint", "reader",
                 {"TargetRole": "READ_ONLY"},
                 {"Endpoint": f"reader.endpoint.proxy-{suffix}"}),
        Resource(stack, region, "Parameters", "AWS::RDS::DBParameterGroup", "parameters",
                 {"Parameters": {"innodb_lock_wait_timeout": "3", "another": "x"}}, {}),
        Resource(stack, region, "Targets", "AWS::RDS::DBProxyTargetGroup", "targets",
                 {"ConnectionPoolConfigurationInfo": {"ConnectionBorrowTimeout": borrow_timeout}},
                 {}),
    ]
    made += [
        Resource(
            stack, region, f"Instance{n}", "AWS::RDS::DBInstance", f"todo-{region}-{n}", {}, {}
        )
        for n in range(1, instances + 1)
    ]
    return made


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 20) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def called() -> Any:
            return function(*arguments)

        return self.run(called())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@dataclass
class World:
    """Two servers, and the two regions' parts in this process."""

    paths: LabPaths
    settings: Settings
    deployment: Deployment
    parts: dict[str, GlobalDatabase] = field(default_factory=dict)
    loops: dict[str, Loop] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    _clients: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    _starting: dict[str, Future[None]] = field(default_factory=dict)

    @property
    def processes(self) -> ProcessTable:
        return ProcessTable(self.paths.run)

    def server(self, region: str) -> Process:
        process = self.processes.get(process_name(region))
        assert process is not None
        return process

    def address(self, region: str) -> str:
        return self.settings.region_address(region)

    def start_server(self, region: str) -> None:
        self.processes.spawn(
            process_name(region), mariadbd_argv(self.paths, self.settings, region),
            self.paths.log / f"db-{region}.log", os.environ,
        )

    def kill_server(self, region: str) -> None:
        self.processes.kill([self.server(region)])

    def start(self, region: str, wait: bool = True) -> None:
        """The region's part; `wait` until its server is in its role."""
        loop = self.loops[region] = Loop()
        part = self.parts[region] = GlobalDatabase(
            region, self.deployment, self.settings, self.paths, on_event=self.events.append
        )
        started = asyncio.run_coroutine_threadsafe(part.start(), loop._loop)
        if wait:
            started.result(20)
        self._starting[region] = started

    def stop(self, region: str) -> None:
        loop = self.loops.pop(region)
        self._starting.pop(region).cancel()
        loop.run(self.parts.pop(region).close())
        loop.close()

    def fault(self, region: str, **fault: Any) -> None:
        part = self.parts[region]
        self.loops[region].call(functools.partial(part.set_replication, **fault))

    # ---- clients

    def login(self, name: str) -> tuple[str, str]:
        value = AccountsFile(AuroraFiles(self.paths).accounts).read().values[f"todo/{name}"]
        return value.login.username, value.login.password

    def connect(self, region: str, *, reader: bool = False, user: str = "application",
                **options: Any) -> Any:
        """Through the region's proxy, with TLS verified against the proxy's host name."""
        name, password = self.login(user)
        settings: dict[str, Any] = {
            "host": self.address(region), "port": READER_PORT if reader else WRITER_PORT,
            "user": name, "password": password, "database": "todo", "autocommit": True,
            "connect_timeout": 5, "read_timeout": 8, "write_timeout": 8,
            "ssl": ssl.create_default_context(cafile=str(self.paths.ca)), **options,
        }
        return pymysql.connect(**settings)

    def direct(self, region: str, statement: str, *values: object) -> list[Any]:
        """On the server itself, as the lab's administrator."""
        admin = AccountsFile(AuroraFiles(self.paths).accounts).read().admin
        connection = pymysql.connect(
            host=self.address(region), port=SERVER_PORT, user=admin.username,
            password=admin.password, autocommit=True, connect_timeout=3, read_timeout=5,
            ssl_disabled=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def ids(self, region: str) -> set[str]:
        return {row[0] for row in self.direct(region, "SELECT id FROM todo.todo")}

    def boto(self, service: str, region: str, signed_for: str = "") -> Any:
        key = (service, region, signed_for)
        if key not in self._clients:
            self._clients[key] = self._client(*key)
        return self._clients[key]

    def _client(self, service: str, region: str, signed_for: str) -> Any:
        return boto3.client(
            service, region_name=signed_for or region,
            endpoint_url=f"http://{self.address(region)}:{API_PORT}",
            aws_access_key_id="lab", aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=8),
        )

    def global_cluster(self, region: str) -> dict[str, Any]:
        (cluster,) = self.boto("rds", region).describe_global_clusters()["GlobalClusters"]
        return dict(cluster)

    def settled(self, region: str, writer: str, seconds: float = 15) -> dict[str, Any]:
        """Until the operation has ended, every member is connected and `writer` is the writer."""
        found: dict[str, Any] = {}

        def done() -> bool:
            found.update(self.global_cluster(region))
            members = found["GlobalClusterMembers"]
            return (
                found["Status"] == "available"
                and all(m["SynchronizationStatus"] == "connected" for m in members)
                and [m["DBClusterArn"] for m in members if m["IsWriter"]] == [cluster_arn(writer)]
            )

        until(done, seconds)
        return found

    def switchover(self, source: str, target: str) -> dict[str, Any]:
        self.boto("rds", source).switchover_global_cluster(
            GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(target)
        )
        return self.settled(source, target)

    def failover(self, target: str) -> None:
        """Until the target is the writer."""
        self.boto("rds", target).failover_global_cluster(
            GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(target),
            AllowDataLoss=True,
        )
        until(lambda: self.global_cluster(target)["Status"] == "available")

    def caught_up(self, source: str, target: str) -> None:
        """Until the target has all that the source has."""
        position = self.direct(source, "SELECT @@gtid_binlog_pos")[0][0]
        assert self.direct(target, "SELECT MASTER_GTID_WAIT(%s, 4)", position)[0][0] == 0

    def rds_events(self) -> list[str]:
        return [e["event_id"][-4:] for e in self.events if e["kind"] == "rds_event"]


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for a condition to be true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def make_world(folder: Path, *, delay: float = 0.0, switchover_delay: float = 0.0,
               borrow_timeout: float = 3, instances: int = 2) -> World:
    """Prepared, nothing started."""
    paths = LabPaths(folder)
    profile = replace(
        PROFILES["fast"], replication_delay=delay, switchover_delay=switchover_delay
    )
    prefix = free_network()
    settings = Settings(Network(prefix), profile, "example.test", REGIONS, "topology.toml")
    world = World(paths, settings, deployment(borrow_timeout, instances))
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(paths.ca))
    for region in REGIONS:
        leaf = authority.issue_cert(*certificate_names(world.deployment, settings, region))
        paths.certificate(region).parent.mkdir(exist_ok=True)
        paths.certificate(region).write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    prepare(paths, settings, world.deployment)
    return world


@contextlib.contextmanager
def running(world: World, *, table: bool = True) -> Iterator[World]:
    """Started; the table made; stopped again whatever happens."""
    try:
        for region in REGIONS:
            world.start_server(region)
        for region in REGIONS:
            world.start(region)
        if table:
            connection = world.connect(EAST, user="admin")
            with connection, connection.cursor() as cursor:
                cursor.execute(TABLE)
            until(lambda: world.direct(WEST, "SHOW TABLES FROM todo"))
        yield world
    finally:
        for event in world.events:
            print(event)  # shown by pytest when the test fails
        for client in world._clients.values():
            client.close()
        for region in list(world.parts):
            world.stop(region)
        world.processes.stop(world.processes.alive())
