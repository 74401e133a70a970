"""TLS for the listener."""

from __future__ import annotations

import re
from pathlib import Path

from OpenSSL import crypto
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair
from twisted.protocols.tls import TLSMemoryBIOFactory

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def tls_factory(factory: IProtocolFactory, cert_file: Path, key_file: Path) -> IProtocolFactory:
    """``factory`` behind TLS.

    ``cert_file`` holds the server's certificate and after it those that lead to its authority;
    both files are PEM.
    """
    chain = [
        Certificate.loadPEM(pem).original for pem in _CERTIFICATE.findall(cert_file.read_bytes())
    ]
    options = CertificateOptions(
        privateKey=KeyPair.load(key_file.read_bytes(), crypto.FILETYPE_PEM).original,
        certificate=chain[0],
        extraCertChain=chain[1:],
    )
    return TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=factory)
