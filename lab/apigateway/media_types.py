"""Which bodies are bytes to an API and which are text. Pure.

Source: AWS docs "Working with binary media types for REST APIs". What is not one of the API's
binary media types is read as UTF-8, and what is not UTF-8 is spoiled by that. Assumed: for the
answer of an HTTP proxy integration only its Content-Type counts.
"""

from __future__ import annotations


def is_binary_type(header: bytes | None, binary_types: frozenset[str]) -> bool:
    """Whether a Content-Type, or the first type of an Accept, is one of the API's binary types."""
    if not binary_types:
        return False
    if "*/*" in binary_types:
        return True
    kind = (header or b"").split(b",")[0].split(b";")[0].strip().lower().decode("latin-1")
    return kind in binary_types or f"{kind.partition('/')[0]}/*" in binary_types


def pass_through(body: bytes, content_type: bytes | None, binary_types: frozenset[str]) -> bytes:
    """A body after its way through a proxy integration."""
    if not body or is_binary_type(content_type, binary_types):
        return body
    return body.decode("utf-8", "replace").encode()
