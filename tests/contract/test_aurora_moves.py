"""Planned switchovers of real databases: under a writer, cancelled, and cut off half-way."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
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

START_ONE_REGION = """
import asyncio, sys
from pathlib import Path
from lab.aurora import GlobalDatabase
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import Settings

async def main(root, region):
    paths = LabPaths(Path(root))
    part = GlobalDatabase(
        region, Deployment.load(paths.deployment), Settings.load(paths.settings), paths
    )
    await part.start()
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


class Writer:
    """Writes rows through whichever proxy takes them, and notes what was acknowledged when."""

    def __init__(self, world: World, pause: float = 0.005) -> None:
        self.acknowledged: dict[str, float] = {}
        self.failures: list[tuple[Any, ...]] = []
        self._world = world
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    @property
    def longest_gap(self) -> float:
        times = sorted(self.acknowledged.values())
        return max(b - a for a, b in itertools.pairwise(times))

    def _run(self) -> None:
        regions, connection, number = [EAST, WEST], None, 0
        while not self._stop.is_set():
            row = f"row-{number:05}"
            try:
                connection = connection or self._world.connect(regions[0])
                with connection.cursor() as cursor:
                    cursor.execute(INSERT, (row, "x"))
                self.acknowledged[row] = time.monotonic()
                number += 1
                time.sleep(self._pause)
            except pymysql.MySQLError as error:
                self.failures.append(error.args)
                if connection is not None:
                    connection.close()
                connection = None
                regions.reverse()
                time.sleep(0.005)
        if connection is not None:
            connection.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(make_world(tmp_path)) as world:
        yield world


def test_switchover_under_a_writer_loses_nothing(world: World) -> None:
    with Writer(world) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        for source, target in ((EAST, WEST), (WEST, EAST)):
            before = len(writer.acknowledged)
            world.switchover(source, target)
            until(lambda before=before: len(writer.acknowledged) > before + 20)
    rows = world.ids(EAST)
    assert set(writer.acknowledged) <= rows
    world.caught_up(EAST, WEST)
    assert world.ids(WEST) == rows
    print(f"longest write gap of two moves: {writer.longest_gap:.3f} s")
    assert writer.longest_gap < 0.5
    assert {args[0] for args in writer.failures} <= {1290, 1105}
    assert world.rds_events() == ["0181", "0182", "0183", "0184", "0185"] * 2


def test_connections_of_before_the_demotion_get_1290_from_the_server(world: World) -> None:
    stale, in_transaction = world.connect(EAST), world.connect(EAST, autocommit=False)
    with in_transaction.cursor() as cursor:
        cursor.execute(INSERT, ("open", "x"))
    world.switchover(EAST, WEST)
    with stale.cursor() as cursor:
        cursor.execute("SELECT 1")  # the trap: it looks well
        with pytest.raises(pymysql.OperationalError) as refusal:
            cursor.execute(INSERT, ("stale", "x"))
    assert refusal.value.args[0] == 1290
    with pytest.raises(pymysql.OperationalError) as refusal:
        in_transaction.commit()
    assert refusal.value.args[0] == 1290
    stale.close()
    in_transaction.close()
    assert world.ids(WEST) == set()
    with pytest.raises(pymysql.OperationalError, match="associated read/write instances"):
        world.connect(EAST)


def test_target_cut_off_cancels_and_the_primary_writes_on(world: World) -> None:
    from lab.aurora import operation

    world.fault(WEST, cut=True)
    with world.connect(EAST) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("alone", "x"))
    patient = operation.SYNC_SECONDS
    operation.SYNC_SECONDS = 0.5
    try:
        world.boto("rds", EAST).switchover_global_cluster(
            GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(WEST)
        )
        until(lambda: "0186" in world.rds_events())
    finally:
        operation.SYNC_SECONDS = patient
    found = world.global_cluster(EAST)
    assert found["Status"] == "available"
    assert "FailoverState" not in found
    with world.connect(EAST) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("still", "x"))
    world.fault(WEST, cut=False)
    until(lambda: {"alone", "still"} <= world.ids(WEST))


@contextlib.contextmanager
def region_process(world: World, region: str) -> Iterator[subprocess.Popen[str]]:
    """The region's part in a process of its own, which is dead at the end."""
    argv = [sys.executable, "-c", START_ONE_REGION, str(world.paths.root), region]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_operation_survives_the_death_of_its_process(tmp_path: Path) -> None:
    """The primary's region process dies between demotion and promotion; a new one ends the move."""
    world = make_world(tmp_path, switchover_delay=1.0)
    world.deployment.save(world.paths.deployment)
    world.settings.save(world.paths.settings)
    with running(world):
        world.stop(EAST)
        with region_process(world, EAST) as process:
            world.boto("rds", EAST).switchover_global_cluster(
                GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(WEST)
            )
            until(lambda: world.direct(EAST, "SELECT @@read_only") == [(1,)])
            process.kill()
        state = world.global_cluster(WEST)
        assert state["Status"] == "switching-over"
        assert state["FailoverState"] == {
            "Status": "switching-over", "FromDbClusterArn": cluster_arn(EAST),
            "ToDbClusterArn": cluster_arn(WEST), "IsDataLossAllowed": False,
        }
        world.start(EAST, wait=False)
        world.settled(WEST, WEST)
        assert [e["step"] for e in world.events if e["kind"] == "operation_resumed"] == [
            "preparing"
        ]
        with world.connect(WEST) as connection, connection.cursor() as cursor:
            cursor.execute(INSERT, ("moved", "x"))


def test_other_region_ends_an_operation_whose_region_is_gone(tmp_path: Path) -> None:
    """Process and server of the primary die before the promotion: cancelled, by the survivor."""
    world = make_world(tmp_path, switchover_delay=5.0)
    world.deployment.save(world.paths.deployment)
    world.settings.save(world.paths.settings)
    with running(world):
        world.stop(EAST)
        with region_process(world, EAST) as process:
            world.boto("rds", EAST).switchover_global_cluster(
                GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(WEST)
            )
            until(lambda: world.direct(EAST, "SELECT @@read_only") == [(1,)])
            process.kill()
            world.kill_server(EAST)
        until(lambda: world.global_cluster(WEST)["Status"] == "available")
        assert "0186" in world.rds_events()
        world.failover(WEST)
        with world.connect(WEST) as connection, connection.cursor() as cursor:
            cursor.execute(INSERT, ("saved", "x"))


def test_new_connections_queue_until_the_promotion(tmp_path: Path) -> None:
    with running(make_world(tmp_path, switchover_delay=1.0)) as world:
        world.boto("rds", EAST).switchover_global_cluster(
            GlobalClusterIdentifier=GLOBAL, TargetDbClusterIdentifier=cluster_arn(WEST)
        )
        until(lambda: world.direct(EAST, "SELECT @@read_only") == [(1,)])
        began = time.monotonic()
        with world.connect(WEST) as connection, connection.cursor() as cursor:
            cursor.execute(INSERT, ("queued", "x"))
        assert time.monotonic() - began > 0.5
        world.settled(WEST, WEST)
