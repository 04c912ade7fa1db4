"""Reading DNS answers."""

from __future__ import annotations

import pytest
from dnslib import CNAME, RCODE, RR, A, DNSRecord

from lab.dns_client import NameNotFound, NoAddress, ServerFailure, read_answer


def record(*rrs: RR, rcode: int = RCODE.NOERROR) -> DNSRecord:
    reply = DNSRecord.question("s.example.test").reply()
    reply.header.rcode = rcode
    reply.add_answer(*rrs)
    return reply


def a(name: str, address: str, ttl: int) -> RR:
    return RR(name, rdata=A(address), ttl=ttl)


def cname(name: str, target: str, ttl: int) -> RR:
    return RR(name, rtype=5, rdata=CNAME(target), ttl=ttl)


def test_addresses_keep_their_order() -> None:
    answer = read_answer(
        "s.example.test",
        record(a("S.Example.test", "127.0.2.1", 9), a("s.example.test", "127.0.1.1", 5)),
    )
    assert answer.addresses == ("127.0.2.1", "127.0.1.1")
    assert answer.ttl == 5


def test_alias_chain_is_followed_and_the_smallest_ttl_counts() -> None:
    answer = read_answer(
        "s.example.test",
        record(
            cname("s.example.test", "b.example.test.", 3),
            cname("b.example.test", "c.example.test.", 60),
            a("c.example.test", "127.0.1.1", 60),
        ),
    )
    assert (answer.addresses, answer.ttl, answer.alias) == (("127.0.1.1",), 3, None)


def test_alias_that_leads_elsewhere_is_told() -> None:
    answer = read_answer("s.example.test", record(cname("s.example.test", "x.test.", 7)))
    assert (answer.addresses, answer.ttl, answer.alias) == ((), 7, "x.test")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (record(rcode=RCODE.NXDOMAIN), NameNotFound),
        (record(), NoAddress),
        (record(a("other.test", "127.0.0.1", 1)), NoAddress),
        (record(rcode=RCODE.SERVFAIL), ServerFailure),
        (record(rcode=RCODE.REFUSED), ServerFailure),
    ],
)
def test_failures_are_told_apart(reply: DNSRecord, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_answer("s.example.test", reply)


def test_endless_alias_is_no_address() -> None:
    loop = record(cname("s.example.test", "s.example.test.", 1))
    with pytest.raises(NoAddress):
        read_answer("s.example.test", loop)
