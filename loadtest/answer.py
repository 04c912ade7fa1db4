"""Which region answered? One rule for all stateless services.

A service says its region twice: in the `X-Region` header and in the JSON body. Both must be there
and agree, so that a cache, a default page or a half-rewritten gateway cannot pass for a service.
The downside: a service that is cloned and drops the region from its body fails here; give it a
user class with a check of its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from loadtest.errors import LoadTestError

REGION_HEADER = "X-Region"
OK = 200


class BadAnswer(LoadTestError):
    """The answer does not count as a good one; the text is the reason that is counted."""


def answering_region(
    service: str, regions: Collection[str], status: int, header: str | None, body: bytes
) -> str:
    """Returns the region that gave this answer.

    `service` is the service that was asked, `regions` those that may answer, `header` the value of
    X-Region (None when absent). Raises `BadAnswer` with a short reason, the same for every request
    that fails alike, because reasons are counted.
    """
    if status != OK:
        raise BadAnswer(f"HTTP {status}")
    if not header:
        raise BadAnswer("200 without X-Region")
    if header not in regions:
        raise BadAnswer("200 with an unknown region in X-Region")
    try:
        document = json.loads(body)
    except ValueError:
        raise BadAnswer("200 whose body is not JSON") from None
    if not isinstance(document, dict):
        raise BadAnswer("200 whose body is not a JSON object")
    if document.get("region") != header:
        raise BadAnswer("200 whose body and X-Region name different regions")
    if document.get("service") != service:
        raise BadAnswer("200 from another service")
    return header
