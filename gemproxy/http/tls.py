"""TLS for the listener."""

from __future__ import annotations

import re
from pathlib import Path

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOFactory

from gemproxy.core.errors import ConfigError, Fault

#: For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 section 4.2). With RSA
#: key exchange a stolen key decrypts recorded traffic. All suites of TLS 1.3 qualify.
_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def tls_factory(factory: IProtocolFactory, cert_file: Path, key_file: Path) -> IProtocolFactory:
    """Return ``factory`` wrapped in TLS.

    ``cert_file`` holds the server's certificate, followed by its chain; both files are PEM. Raises
    :class:`ConfigError` if they cannot be used.
    """
    chain, key = _read_chain(cert_file), _read_key(key_file)
    options = CertificateOptions(
        privateKey=key,
        certificate=chain[0],
        extraCertChain=chain[1:],
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(_SUITES),
    )
    try:
        options.getContext()
    except SSL.Error:
        raise _unusable(key_file, "keyFile", f"does not belong to {cert_file}") from None
    return TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=factory)


def strengthen(endpoint: IStreamServerEndpoint) -> None:
    """Restrict an ``ssl:`` endpoint to the strong suites: its description cannot name suites."""
    options = getattr(endpoint, "_sslContextFactory", None)
    if isinstance(options, CertificateOptions):
        options._cipherString = _SUITES


def _read_chain(file: Path) -> list[crypto.X509]:
    try:
        chain = [
            crypto.load_certificate(crypto.FILETYPE_PEM, pem)
            for pem in _CERTIFICATE.findall(file.read_bytes())
        ]
    except (crypto.Error, OSError):
        chain = []
    if not chain:
        raise _unusable(file, "certFile", "expected certificates in PEM form")
    return chain


def _read_key(file: Path) -> crypto.PKey:
    try:
        # The empty passphrase keeps OpenSSL from asking for one at the terminal.
        return crypto.load_privatekey(crypto.FILETYPE_PEM, file.read_bytes(), b"")
    except (crypto.Error, OSError):
        raise _unusable(
            file, "keyFile", "expected a private key in PEM form, not encrypted"
        ) from None


def _unusable(file: Path, setting: str, what: str) -> ConfigError:
    return ConfigError((Fault(str(file), 0, f"proxy.tls.{setting}", what),))
