"""The lab's certificate authority: it signs what AWS Certificate Manager would have issued.

A new authority is made by each `lab up` into an empty lab directory. Its key stays in memory only;
the region's certificate and key are readable by this user alone.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from lab.aurora import certificate_names
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import Settings


def issue(paths: LabPaths, deployment: Deployment, settings: Settings) -> None:
    """Write the authority's certificate, and per region one certificate with its key."""
    import trustme  # only `lab up` needs it: it takes 9 MiB

    authority = trustme.CA(organization_name="two-region lab")
    for region in settings.regions:
        certificate = authority.issue_cert(*_names(deployment, settings, region))
        path = paths.certificate(region)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(path, certificate.private_key_and_cert_chain_pem.bytes())
    authority.cert_pem.write_to_path(str(paths.ca))


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    return context


def client_context(ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    return context


def _names(deployment: Deployment, settings: Settings, region: str) -> list[str]:
    """What the region's ACM certificates are for, and the names and addresses of AWS's own."""
    names = {f"*.execute-api.{region}.amazonaws.com"}
    names.update(certificate_names(deployment, settings, region))
    for resource in deployment.of_type("AWS::CertificateManager::Certificate", region=region):
        names.add(resource.properties["DomainName"])
        names.update(resource.properties.get("SubjectAlternativeNames", ()))
    return sorted(names)


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
