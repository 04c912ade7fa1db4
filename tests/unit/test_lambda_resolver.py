"""How a function's process reads DNS answers, and what it leaves to the system."""

from __future__ import annotations

import _socket
import json
import socket
from pathlib import Path

import pytest
from dnslib import CNAME, QTYPE, RCODE, RR, A, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from lab.lambda_runtime import lab_runtime
from lab.lambda_runtime.vpc import VpcNames, install

SETTINGS = {
    "zone": "example.test",
    "name_server": ["127.0.0.1", 9],
    "ports": {"443": 8443},
    "hosts": {"proxy.example": {"3306": ["127.0.1.10", 3316]}},
}


def answer(query: bytes, *records: RR, code: int = RCODE.NOERROR) -> bytes:
    reply = DNSRecord.parse(query).reply()
    reply.header.rcode = code
    reply.add_answer(*records)
    return bytes(reply.pack())


def test_query_is_what_a_resolver_sends() -> None:
    query = lab_runtime._query("service1.us-east-1.example.test")
    parsed = DNSRecord.parse(query)
    assert str(parsed.q.qname) == "service1.us-east-1.example.test."
    assert (QTYPE[parsed.q.qtype], parsed.header.rd, parsed.header.qr) == ("A", 1, 0)
    assert lab_runtime._query("a.test")[:2] != lab_runtime._query("a.test")[:2]


@pytest.mark.parametrize("name", ["", "a..test", "x" * 64 + ".test", "é.test", "a." * 130 + "test"])
def test_impossible_names(name: str) -> None:
    with pytest.raises(socket.gaierror) as caught:
        lab_runtime._query(name)
    assert caught.value.errno == socket.EAI_NONAME


def test_answers() -> None:
    query = lab_runtime._query("www.example.test")
    alias = RR("www.example.test", QTYPE.CNAME, rdata=CNAME("a.example.test"))
    one, two = (RR("a.example.test", QTYPE.A, rdata=A(f"127.0.{i}.10")) for i in (1, 2))
    assert lab_runtime._addresses(query, answer(query, alias, one, two)) == [
        "127.0.1.10",
        "127.0.2.10",
    ]
    for code, records, errno in (
        (RCODE.NXDOMAIN, (), socket.EAI_NONAME),
        (RCODE.NOERROR, (), socket.EAI_NODATA),
        (RCODE.NOERROR, (alias,), socket.EAI_NODATA),
    ):
        with pytest.raises(socket.gaierror) as caught:
            lab_runtime._addresses(query, answer(query, *records, code=code))
        assert caught.value.errno == errno
    assert lab_runtime._addresses(query, answer(query, code=RCODE.SERVFAIL)) is None
    assert lab_runtime._addresses(query, b"xx" + answer(query, one)[2:]) is None
    assert lab_runtime._addresses(query, query) is None


@given(st.binary(max_size=80))
def test_any_answer_is_survived(rest: bytes) -> None:
    query = lab_runtime._query("a.test")
    try:
        found = lab_runtime._addresses(query, query[:2] + b"\x80\0" + query[4:] + rest)
    except socket.gaierror:
        return
    assert found is None or all(socket.inet_aton(address) for address in found)


def test_names_of_the_table_and_of_others() -> None:
    assert lab_runtime.resolve("proxy.example", 3306, SETTINGS) == (["127.0.1.10"], 3316)
    assert lab_runtime.resolve("proxy.example", 22, SETTINGS) == (["127.0.1.10"], 22)
    assert lab_runtime.resolve("example.org", 443, SETTINGS) == (None, 443)
    assert lab_runtime.resolve("notexample.test", 443, SETTINGS) == (None, 443)
    assert lab_runtime.resolve("example.test", 443, {**SETTINGS, "zone": ""}) == (None, 443)


def test_addresses_go_untouched() -> None:
    for host in ("127.0.0.1", b"127.0.0.1", None, "::1"):
        assert lab_runtime.getaddrinfo(host, 80) == _socket.getaddrinfo(host, 80)


def test_install_is_repeatable(tmp_path: Path) -> None:
    hosts = {"Proxy.Example.": {3306: ("127.0.1.10", 3316)}}
    for _ in range(2):
        install(tmp_path, VpcNames("Example.Test.", ("127.0.0.1", 1053), {443: 8443}, hosts))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lab_runtime.py", "vpc.json"]
    assert json.loads((tmp_path / "vpc.json").read_text()) == {
        **SETTINGS,
        "name_server": ["127.0.0.1", 1053],
    }
