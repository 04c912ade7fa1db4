"""Builds the empty `botocore` wheel that keeps the real one out of the deployment packages.

aws-xray-sdk requires botocore, which is 17 MB zipped and which the Lambda runtime has already.
Chalice packages all that pip resolves, so each service's requirements.txt pins this wheel's local
version: pip takes it from `wheels/` and no other, and the package gets two metadata files.

    python services/shared/build_wheels.py          # writes services/shared/wheels/*.whl

The wheel is checked in because `chalice package` has to work straight from a clone. It is made of
nothing but the text below, the same bytes on every machine, and a test builds it again to compare.

Downside: never install a service's requirements.txt into an environment of your own: it would
replace botocore there by nothing.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

NAME = "botocore"
VERSION = "1.44.5+lambda.runtime"
_INFO = f"{NAME}-{VERSION}.dist-info"
_METADATA = f"""\
Metadata-Version: 2.1
Name: {NAME}
Version: {VERSION}
Summary: Empty on purpose: the Lambda runtime has botocore
"""
_WHEEL = """\
Wheel-Version: 1.0
Generator: services/shared/build_wheels.py
Root-Is-Purelib: true
Tag: py3-none-any
"""


def build(folder: Path) -> Path:
    """Writes the wheel into `folder` and returns its path."""
    files = {f"{_INFO}/METADATA": _METADATA, f"{_INFO}/WHEEL": _WHEEL}
    record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in files.items())
    files[f"{_INFO}/RECORD"] = f"{record}{_INFO}/RECORD,,\n"
    path = folder / f"{NAME}-{VERSION}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(__file__).parent / 'wheels')}\n")
