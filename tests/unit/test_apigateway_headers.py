"""What happens to headers on their way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.apigateway.headers import (
    DROPPED_FROM_REQUEST,
    DROPPED_FROM_RESPONSE,
    OVERWRITTEN_IN_REQUEST,
    REMAPPED_IN_RESPONSE,
    forwarding,
    passed_to_integration,
    returned_to_caller,
)


@pytest.mark.parametrize(
    "name",
    [
        "Content-Encoding", "Content-MD5", "Expect", "Max-Forwards", "Proxy-Authenticate", "Server",
        "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Via", "WWW-Authenticate",
    ],
)  # fmt: skip
def test_dropped_from_the_request(name: str) -> None:
    assert passed_to_integration([(name.encode(), b"x")], {}) == []


@pytest.mark.parametrize(
    "name",
    [
        "Accept", "Accept-Encoding", "Content-Type", "Date", "Range", "Referer", "User-Agent",
        "Connection", "Authorization", "Cookie", "X-Anything",
    ],
)  # fmt: skip
def test_passed_with_the_request(name: str) -> None:
    headers = [(name.encode(), b"x")]
    assert passed_to_integration(headers, {}) == headers


@pytest.mark.semantics(55)
def test_bearer_token_passes_and_a_signature_does_not() -> None:
    bearer = [(b"authorization", b"Bearer abc")]
    signature = [(b"Authorization", b"AWS4-HMAC-SHA256 Credential=x")]
    assert passed_to_integration([*bearer, *signature], {}) == bearer


def test_mapped_header_replaces_the_callers() -> None:
    passed = passed_to_integration([(b"X-Outer-Host", b"forged")], {b"x-outer-host": b"api"})
    assert passed == [(b"x-outer-host", b"api")]


@pytest.mark.parametrize(
    ("name", "returned"),
    [
        ("Date", "x-amzn-Remapped-Date"),
        ("Server", "x-amzn-Remapped-Server"),
        ("WWW-Authenticate", "x-amzn-Remapped-WWW-Authenticate"),
        ("Connection", "x-amzn-Remapped-Connection"),
        ("Authorization", "x-amzn-Remapped-Authorization"),
        ("User-Agent", "x-amzn-Remapped-User-Agent"),
        ("Transfer-Encoding", None),
        ("Via", None),
        ("Host", None),
        ("Set-Cookie", "Set-Cookie"),
        ("X-Region", "X-Region"),
        ("Retry-After", "Retry-After"),
    ],
)
def test_returned_to_the_caller(name: str, returned: str | None) -> None:
    headers = [(b"Content-Type", b"a/b"), (name.encode(), b"x")]
    expected = headers[:1] if returned is None else [headers[0], (returned.encode(), b"x")]
    assert returned_to_caller(headers) == expected


def test_content_type_is_always_there() -> None:
    assert returned_to_caller([]) == [(b"Content-Type", b"application/json")]


def test_forwarding_appends_the_caller() -> None:
    added = dict(forwarding([(b"x-forwarded-for", b"1.2.3.4")], "127.0.0.9", 443, "1-a-b", "id"))
    assert added[b"X-Forwarded-For"] == b"1.2.3.4, 127.0.0.9"
    assert added[b"X-Amzn-Trace-Id"] == b"Root=1-a-b"


names = st.sampled_from(
    [
        *sorted(DROPPED_FROM_REQUEST | OVERWRITTEN_IN_REQUEST | REMAPPED_IN_RESPONSE),
        *(b"accept", b"x-a", b"cookie"),
    ]
)
headers = st.lists(st.tuples(names.map(bytes.title), st.binary(max_size=4)), max_size=10)


@given(headers)
@settings(max_examples=50)
def test_request_headers_keep_order_and_never_leak(
    given_headers: list[tuple[bytes, bytes]],
) -> None:
    passed = passed_to_integration(given_headers, {})
    kept = [h for h in given_headers if h in passed]
    assert passed == kept
    left = {name.lower() for name, _ in passed}
    assert not left & (DROPPED_FROM_REQUEST | OVERWRITTEN_IN_REQUEST)


@given(headers)
@settings(max_examples=50)
def test_response_headers_are_remapped_not_repeated(
    given_headers: list[tuple[bytes, bytes]],
) -> None:
    left = {name.lower() for name, _ in returned_to_caller(given_headers)}
    assert not left & (DROPPED_FROM_RESPONSE | REMAPPED_IN_RESPONSE)
    assert b"content-type" in left
