"""DNS and HTTP observation over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dnslib import CNAME, QTYPE, RCODE, RR, A, DNSRecord
from failover_rig import free_port

from failover.dns import NameServerResolver, SystemResolver, split_address
from failover.probe import HttpProbe, region_in

Answering = Callable[[DNSRecord], DNSRecord | None]


class DnsStub:
    """A UDP name server that answers what it is told to; None: not at all."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.answer: Answering = lambda question: None
        self.asked: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            data, sender = self.socket.recvfrom(4096)
            if not data:
                self.socket.close()
                return
            question = DNSRecord.parse(data)
            self.asked.append(str(question.q.qname))
            reply = self.answer(question)
            if reply is not None:
                self.socket.sendto(reply.pack(), sender)

    def close(self) -> None:
        self.socket.sendto(b"", self.socket.getsockname())


@pytest.fixture
def stub() -> Iterator[DnsStub]:
    made = DnsStub()
    yield made
    made.close()


def with_addresses(*addresses: str) -> Answering:
    def answer(question: DNSRecord) -> DNSRecord:
        reply = question.reply()
        for address in addresses:
            reply.add_answer(RR(question.q.qname, QTYPE.A, rdata=A(address), ttl=1))
        return reply

    return answer


def test_all_addresses_are_given(stub: DnsStub) -> None:
    stub.answer = with_addresses("192.0.2.1", "192.0.2.2")
    resolver = NameServerResolver([stub.address])
    assert resolver.addresses("a.example.test") == ("192.0.2.1", "192.0.2.2")


def test_the_next_name_server_is_asked_when_one_is_silent(stub: DnsStub) -> None:
    silent = DnsStub()
    stub.answer = with_addresses("192.0.2.1")
    resolver = NameServerResolver([silent.address, stub.address], timeout=0.1)
    assert resolver.addresses("a.example.test") == ("192.0.2.1",)
    silent.close()


def test_an_alias_is_followed(stub: DnsStub) -> None:
    def answer(question: DNSRecord) -> DNSRecord:
        if str(question.q.qname) == "a.example.test.":
            reply = question.reply()
            reply.add_answer(RR("a.example.test", QTYPE.CNAME, rdata=CNAME("b.example.test")))
            return reply
        return with_addresses("192.0.2.7")(question)  # type: ignore[return-value]

    stub.answer = answer
    assert NameServerResolver([stub.address]).addresses("a.example.test") == ("192.0.2.7",)
    assert stub.asked == ["a.example.test.", "b.example.test."]


def test_no_answer_and_no_address_are_told_apart(stub: DnsStub) -> None:
    resolver = NameServerResolver([stub.address], timeout=0.1)
    with pytest.raises(OSError, match=r"no DNS answer for a\.example\.test: .*no answer in time"):
        resolver.addresses("a.example.test")
    stub.answer = with_addresses()
    with pytest.raises(OSError, match="DNS has no address"):
        resolver.addresses("a.example.test")

    def refused(question: DNSRecord) -> DNSRecord:
        reply = question.reply()
        reply.header.rcode = RCODE.REFUSED
        return reply

    stub.answer = refused
    with pytest.raises(OSError, match="rcode 5"):
        resolver.addresses("a.example.test")


def test_the_system_resolver() -> None:
    assert SystemResolver().addresses("127.0.0.1") == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1053", ("127.0.0.1", 1053)),
        ("ns-1.awsdns-01.org", ("ns-1.awsdns-01.org", 53)),
        ("[::1]:1053", ("::1", 1053)),
        ("[::1]", ("::1", 53)),
        ("2001:db8::1", ("2001:db8::1", 53)),
    ],
)
def test_name_server_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


def test_a_probe_reports_why_there_was_no_answer() -> None:
    port = free_port()
    answer = HttpProbe().get(f"https://a.example.test:{port}/", "127.0.0.1")
    assert (answer.ok, answer.error) == (False, "connection refused")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://a.example.test:{silent.getsockname()[1]}/"
        answer = HttpProbe(timeout=0.1).get(url, "127.0.0.1")
        assert answer.error == "no answer in time"


def test_a_probe_survives_what_is_no_http(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        url = f"http://a.example.test:{server.getsockname()[1]}/"
        answer = HttpProbe(timeout=2).get(url, "127.0.0.1")
        thread.join()
    assert not answer.ok
    assert answer.error


@pytest.mark.parametrize(
    ("body", "region"),
    [
        (b'{"region": "us-east-1"}', "us-east-1"),
        (b'{"region": 5}', None),
        (b'["region"]', None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_region_in_a_body(body: bytes, region: str | None) -> None:
    assert region_in(body) == region
