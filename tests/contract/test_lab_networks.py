"""Which loopback network `lab up --network auto` takes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from loopback_networks import free_network

from lab.cli import pick_network
from lab.errors import PreconditionError
from lab.lifecycle import Lab, check_ports
from lab.paths import LabPaths
from lab.settings import PROFILES, Network, Settings


def test_labs_that_start_at_once_get_different_networks(tmp_path: Path) -> None:
    lab = Lab(LabPaths(tmp_path / ".lab"), print)

    networks = [pick_network(lab, "auto", Path("topology.toml")).prefix for _ in range(5)]

    assert len(set(networks)) == 5


@pytest.mark.parametrize(
    ("kind", "said"), [(socket.SOCK_DGRAM, " (UDP)"), (socket.SOCK_STREAM, "")], ids=["UDP", "TCP"]
)
def test_the_name_server_needs_its_port_for_both_protocols(kind: int, said: str) -> None:
    network = Network(free_network())
    settings = Settings(network, PROFILES["fast"], "", ("a", "b"), "topology.toml")
    check_ports(settings, ["global"])
    with socket.socket(socket.AF_INET, kind) as another:
        another.bind((network.nameserver_address, 1053))
        if kind == socket.SOCK_STREAM:
            another.listen()

        with pytest.raises(PreconditionError, match="in use by another program") as caught:
            check_ports(settings, ["global"])

    assert f"{network.nameserver_address}:1053{said}\n" in str(caught.value)
