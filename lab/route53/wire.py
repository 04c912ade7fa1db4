"""DNS packets: reads queries by hand, builds answers with dnslib.

Queries are read by hand because a query has a fixed shape (one uncompressed question, perhaps an
OPT record) and because that reading can be complete: every byte string is either a `Query`, an
`Unreadable` with the response code it deserves, or None (not worth an answer). dnslib's general
parser follows chains of compression pointers by recursion, which a hostile packet can exhaust.

Downside: two readers of DNS syntax in one project; this one knows questions only.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import dnslib

from lab.route53.selection import RRset

NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 3, 4, 5, 16
HEADER_SIZE = 12
PLAIN_UDP_SIZE = 512
MAX_UDP_SIZE = 1232
"""More than this is cut off and fetched by TCP (the "DNS flag day 2020" size)."""

_OPT, _IN, _QUERY = 41, 1, 0
_TRANSFERS = (251, 252)  # IXFR and AXFR
_QR, _RD, _DO = 0x8000, 0x0100, 0x8000
_MAX_NAME = 255
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b".\\")


@dataclass(frozen=True, slots=True)
class Query:
    """One readable question."""

    id: int
    recursion_desired: bool
    labels: tuple[bytes, ...]
    """As asked, so that the answer repeats the letter case."""
    name: str
    """As `records.normal_name` writes it."""
    type: str
    type_number: int
    edns: bool
    dnssec_ok: bool
    udp_size: int
    """The largest answer in bytes that may go by UDP."""
    class_number: int = 1
    refusal: int = NOERROR
    """A response code that it gets whatever the zones hold."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message without a question that could be repeated; it gets an error."""

    id: int
    opcode: int
    recursion_desired: bool
    rcode: int


class _Malformed(Exception):
    pass


def read_query(packet: bytes) -> Query | Unreadable | None:
    """What a packet asks. None for answers and for packets without a whole header."""
    if len(packet) < HEADER_SIZE:
        return None
    ident, flags, *counts = struct.unpack_from("!6H", packet)
    if flags & _QR:
        return None
    opcode, recursion = flags >> 11 & 0xF, bool(flags & _RD)
    if opcode != _QUERY:
        return Unreadable(ident, opcode, recursion, NOTIMP)
    try:
        return _read_question(packet, ident, recursion, counts)
    except _Malformed:
        return Unreadable(ident, opcode, recursion, FORMERR)


def _read_question(packet: bytes, ident: int, recursion: bool, counts: list[int]) -> Query:
    questions, answers, authorities, additionals = counts
    if questions != 1 or answers:
        raise _Malformed
    labels, offset = _read_labels(packet, HEADER_SIZE)
    type_number, rclass = _unpack("!2H", packet, offset)
    offset += 4
    size, dnssec_ok, version, edns = PLAIN_UDP_SIZE, False, 0, False
    for _ in range(authorities + additionals):
        is_root, offset = _skip_name(packet, offset)
        rtype, rr_class, ttl, length = _unpack("!HHIH", packet, offset)
        offset += 10 + length
        if offset > len(packet):
            raise _Malformed
        if rtype == _OPT:
            if edns or not is_root:
                raise _Malformed
            edns, version, dnssec_ok = True, ttl >> 16 & 0xFF, bool(ttl & _DO)
            size = min(max(rr_class, PLAIN_UDP_SIZE), MAX_UDP_SIZE)
    return Query(
        id=ident,
        recursion_desired=recursion,
        labels=labels,
        name=text_name(labels),
        type=type_name(type_number),
        type_number=type_number,
        edns=edns,
        dnssec_ok=dnssec_ok,
        udp_size=size,
        class_number=rclass,
        refusal=_refusal(version, rclass, type_number),
    )


def _refusal(version: int, rclass: int, type_number: int) -> int:
    if version:
        return BADVERS
    return REFUSED if rclass != _IN or type_number in _TRANSFERS else NOERROR


def _unpack(form: str, packet: bytes, offset: int) -> tuple[int, ...]:
    if offset + struct.calcsize(form) > len(packet):
        raise _Malformed
    return struct.unpack_from(form, packet, offset)


def _read_labels(packet: bytes, offset: int) -> tuple[tuple[bytes, ...], int]:
    start = offset
    labels: list[bytes] = []
    while True:
        (length,) = _unpack("!B", packet, offset)
        offset += 1
        if length == 0:
            return tuple(labels), offset
        # Above 63 it is a compression pointer, and nothing stands before the question to point to.
        if length > 63 or offset + length - start >= _MAX_NAME:
            raise _Malformed
        labels.append(packet[offset : offset + length])
        offset += length


def _skip_name(packet: bytes, offset: int) -> tuple[bool, int]:
    """Is it the root, and where it ends; pointers are not followed."""
    start = offset
    while True:
        (length,) = _unpack("!B", packet, offset)
        if length == 0:
            return offset == start, offset + 1
        if length >= 0xC0:
            return False, offset + 2
        offset += 1 + length


def type_name(number: int) -> str:
    """`A` for 1; types without a name get `TYPE<number>` (RFC 3597)."""
    name = dnslib.QTYPE.forward.get(number)
    return f"TYPE{number}" if name is None else str(name)


def text_name(labels: Iterable[bytes]) -> str:
    """Labels as a lower-case name without a final dot, odd bytes as `\\ddd` in octal."""
    return ".".join(
        "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in label.lower())
        for label in labels
    )


@functools.lru_cache(maxsize=4096)
def wire_name(name: str) -> dnslib.DNSLabel:
    """The labels of a name that `text_name` wrote (or a value in a record, with its dot).

    Raises:
        ValueError: an empty or too long label or name.
    """
    labels = []
    for part in name.removesuffix(".").split(".") if name.removesuffix(".") else ():
        label, rest = bytearray(), part
        while rest:
            plain, escape, rest = rest.partition("\\")
            label += _plain(plain, name)
            if escape:
                label.append(int(rest[:3], 8))
                rest = rest[3:]
        if not 0 < len(label) <= 63:
            raise ValueError(f"label of {len(label)} bytes in name {name!r}")
        labels.append(bytes(label))
    if sum(len(label) + 1 for label in labels) >= _MAX_NAME:
        raise ValueError(f"name too long: {name!r}")
    return dnslib.DNSLabel(labels)


def _plain(text: str, name: str) -> bytes:
    if not _PLAIN.issuperset(text.encode("ascii")):
        raise ValueError(f"name {name!r} has characters that must be written as \\ddd")
    return text.encode("ascii")


def _rr(owner: dnslib.DNSLabel, rrset: RRset, value: str) -> dnslib.RR:
    number = dnslib.QTYPE.reverse[rrset.type]
    return dnslib.RR(owner, number, ttl=rrset.ttl, rdata=rdata(rrset.type, value))


def build(
    query: Query,
    rcode: int = NOERROR,
    answer: Iterable[RRset] = (),
    authority: Iterable[RRset] = (),
    additional: Iterable[RRset] = (),
    *,
    authoritative: bool = True,
    truncated: bool = False,
) -> bytes:
    """The answer packet; the question's name is repeated letter by letter."""
    asked = dnslib.DNSLabel(query.labels)

    def records(rrsets: Iterable[RRset]) -> list[dnslib.RR]:
        return [
            _rr(asked if rrset.name == query.name else wire_name(rrset.name), rrset, value)
            for rrset in rrsets
            for value in rrset.values
        ]

    header = dnslib.DNSHeader(
        id=query.id,
        bitmap=0,
        qr=1,
        aa=int(authoritative),
        tc=int(truncated),
        rd=int(query.recursion_desired),
        rcode=rcode & 0xF,
    )
    options = [edns_record(rcode, dnssec_ok=query.dnssec_ok)] if query.edns else []
    record = dnslib.DNSRecord(
        header,
        questions=[dnslib.DNSQuestion(asked, query.type_number, query.class_number)],
        rr=records(answer),
        auth=records(authority),
        ar=records(additional) + options,
    )
    return bytes(record.pack())


def edns_record(rcode: int, *, dnssec_ok: bool) -> dnslib.EDNS0:
    """The OPT record of an answer, with the upper bits of the response code."""
    flags = "do" if dnssec_ok else ""
    return dnslib.EDNS0("", flags=flags, udp_len=MAX_UDP_SIZE, ext_rcode=rcode >> 4)


def build_error(bad: Unreadable) -> bytes:
    """The answer to a message that was not understood: a header."""
    header = dnslib.DNSHeader(
        id=bad.id,
        bitmap=0,
        qr=1,
        opcode=bad.opcode,
        rd=int(bad.recursion_desired),
        rcode=bad.rcode,
    )
    return bytes(dnslib.DNSRecord(header).pack())


@functools.lru_cache(maxsize=4096)
def rdata(rtype: str, value: str) -> dnslib.RD:
    """A record's value, as CloudFormation's `ResourceRecords` has it, in wire form.

    Raises:
        ValueError: the value is not one of that type.
    """
    if rtype == "TXT":
        return dnslib.TXT(_character_strings(value))
    fields = value.split()
    try:
        return _BUILDERS[rtype](*fields)
    except TypeError as error:
        raise ValueError(f"wrong number of fields for {rtype}: {value!r}") from error
    except dnslib.DNSError as error:
        raise ValueError(str(error)) from error


def _a(text: str) -> dnslib.RD:
    return dnslib.A(str(ipaddress.IPv4Address(text)))


def _aaaa(text: str) -> dnslib.RD:
    return dnslib.AAAA(str(ipaddress.IPv6Address(text)))


def _mx(preference: str, name: str) -> dnslib.RD:
    return dnslib.MX(wire_name(name), int(preference))


def _srv(priority: str, weight: str, port: str, name: str) -> dnslib.RD:
    return dnslib.SRV(int(priority), int(weight), int(port), wire_name(name))


def _soa(mname: str, rname: str, *times: str) -> dnslib.RD:
    if len(times) != 5:
        raise ValueError("SOA needs serial, refresh, retry, expire and minimum")
    return dnslib.SOA(wire_name(mname), wire_name(rname), tuple(int(time) for time in times))


def _caa(flags: str, tag: str, value: str) -> dnslib.RD:
    return dnslib.CAA(int(flags), tag, value.strip('"'))


_BUILDERS: Mapping[str, Callable[..., dnslib.RD]] = {
    "A": _a,
    "AAAA": _aaaa,
    "CAA": _caa,
    "CNAME": lambda name: dnslib.CNAME(wire_name(name)),
    "MX": _mx,
    "NS": lambda name: dnslib.NS(wire_name(name)),
    "PTR": lambda name: dnslib.PTR(wire_name(name)),
    "SOA": _soa,
    "SRV": _srv,
}


def _character_strings(value: str) -> list[bytes]:
    """The quoted strings of a TXT value, at most 255 bytes each, `\\"` and `\\ddd` unescaped."""
    strings: list[bytes] = []
    rest = value.strip()
    while rest:
        if not rest.startswith('"'):
            raise ValueError(f"a TXT value stands in double quotes: {value!r}")
        text, rest = _quoted(rest[1:], value)
        if len(text) > 255:
            raise ValueError("a TXT string has at most 255 bytes")
        strings.append(text)
        rest = rest.lstrip()
    if not strings:
        raise ValueError("an empty TXT value")
    return strings


def _quoted(rest: str, value: str) -> tuple[bytes, str]:
    text = bytearray()
    while rest:
        char, rest = rest[0], rest[1:]
        if char == '"':
            return bytes(text), rest
        if char == "\\" and rest[:3].isdigit():
            text.append(int(rest[:3], 8))
            rest = rest[3:]
        elif char == "\\":
            text += rest[:1].encode()
            rest = rest[1:]
        else:
            text += char.encode()
    raise ValueError(f"a TXT string without its closing quote: {value!r}")
