"""The form of Signature Version 4, as a regional AWS API looks at it: pure.

Source: IAM User Guide, "Elements of an AWS API request signature". Date, region and service of the
credential are checked, and that `Host` is signed; the signature itself is not, as nobody has a key.

Downside: a wrong secret key is first noticed on AWS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[\w+=,.@-]+)/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/"
    r"(?P<service>[a-z0-9-]+)/aws4_request, *SignedHeaders=(?P<headers>[a-z0-9;-]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class SignatureFault:
    """Why a request is refused, in AWS's terms."""

    code: str
    message: str
    status: int = 403


def signature_fault(
    headers: Mapping[str, str], region: str, service: str
) -> SignatureFault | None:
    """What is wrong with a request's signature; None if its form is right.

    `headers`: names in small letters. `service`: the signing name, `rds` for instance.
    """
    text = headers.get("authorization", "")
    if not text:
        return SignatureFault("MissingAuthenticationToken", "Missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(text)
    if match is None or "host" not in match["headers"].split(";"):
        return SignatureFault(
            "IncompleteSignature", "Authorization is not a Signature Version 4 header", 400
        )
    if not headers.get("x-amz-date", "").startswith(match["date"]):
        message = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
        return SignatureFault("SignatureDoesNotMatch", message + "from HTTP")
    if match["region"] != region:
        message = f"Credential should be scoped to a valid region, not '{match['region']}'."
        return SignatureFault("SignatureDoesNotMatch", message)
    if match["service"] != service:
        message = f"Credential should be scoped to correct service: '{service}'."
        return SignatureFault("SignatureDoesNotMatch", message)
    return None
