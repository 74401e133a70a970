"""TLS for the listener."""

from __future__ import annotations

import re
from pathlib import Path

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOFactory

from gemproxy.core.errors import ConfigError, Fault

#: TLS 1.2 with forward secrecy and authenticated encryption only: no RSA key exchange, whose
#: recordings a stolen key opens, and no CBC. Those of TLS 1.3 are all like that (RFC 9325, 4.2).
_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def tls_factory(factory: IProtocolFactory, cert_file: Path, key_file: Path) -> IProtocolFactory:
    """``factory`` behind TLS.

    ``cert_file`` holds the server's certificate and after it those that lead to its authority;
    both files are PEM. Raises :class:`ConfigError` where they cannot be used.
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
    """Leave the weak suites out of an endpoint that was described as ``ssl:``.

    Twisted makes such a one with suites of its own choice, and gives no way to say others.
    """
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
        # Without a passphrase OpenSSL would ask for one at the terminal.
        return crypto.load_privatekey(crypto.FILETYPE_PEM, file.read_bytes(), b"")
    except (crypto.Error, OSError):
        raise _unusable(
            file, "keyFile", "expected a private key in PEM form, not encrypted"
        ) from None


def _unusable(file: Path, setting: str, what: str) -> ConfigError:
    return ConfigError((Fault(str(file), 0, f"proxy.tls.{setting}", what),))
