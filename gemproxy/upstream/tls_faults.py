"""Find the cause of a failed TLS handshake in words, which OpenSSL's errors lack."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.python.failure import Failure

#: OpenSSL's errors for bytes that are not TLS.
_NO_TLS = ("wrong version number", "packet length too long", "http request", "record layer failure")
#: X509_V_ERR_* of OpenSSL's x509_vfy.h that operators meet; others get OpenSSL's own text.
_CERTIFICATE = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "certificate is self-signed",
    19: "certificate is of an unknown authority (a self-signed root in its chain)",
    20: "certificate is of an unknown authority",
    21: "certificate is of an unknown authority (its chain is incomplete)",
    23: "certificate is revoked",
}


class TlsFailed(ConnectError):
    """The handshake failed; the text says why, ``reasons`` has the original failure."""

    def __init__(self, text: str, reason: Failure) -> None:
        super().__init__(string=text)
        self.reasons = [reason]


def tls_fault(transport: Any, reason: Failure) -> Failure:
    """Return ``reason``, the end of a handshake over ``transport``, with its cause in words."""
    error: Any = reason.value
    text = _words(transport, error)
    return Failure(TlsFailed(text, reason)) if text else reason


def _words(transport: Any, error: BaseException) -> str:
    if type(error).__module__.startswith("service_identity"):
        names = {_name(each) for each in getattr(error, "errors", ())} - {""}
        return "host name mismatch: the certificate is not for " + (
            ", ".join(sorted(names)) or "this host"
        )
    if isinstance(error, SSL.Error):
        message = _message_of(error)
        if "certificate verify failed" in message:
            return _verification(transport) or message
        if any(each in message for each in _NO_TLS):
            return f"the other side does not speak TLS ({message})"
        return f"TLS handshake failed: {message or type(error).__name__}"
    if isinstance(error, ConnectionClosed):
        return "connection closed during the TLS handshake"
    return ""


def _message_of(error: SSL.Error) -> str:
    """The reasons in OpenSSL's error queue, which has triples of library, function and reason."""
    queue = error.args[0] if error.args else ()
    if not isinstance(queue, list | tuple):
        return ""
    return ", ".join(str(each[-1]) for each in queue if isinstance(each, tuple) and each)


def _verification(transport: Any) -> str:
    """The result of the certificate verification in words.

    pyOpenSSL has no public function for it. This only reads the result, so that a change in
    pyOpenSSL can break the text and never the verification.
    """
    try:
        bindings: Any = SSL
        number = bindings._lib.SSL_get_verify_result(transport.getHandle()._ssl)
        if not number:
            return ""
        known = _CERTIFICATE.get(number)
        if known is not None:
            return known
        text = bindings._ffi.string(bindings._lib.X509_verify_cert_error_string(number))
        return f"certificate refused: {text.decode('latin-1')}"
    except Exception:  # noqa: BLE001 - the words are a comfort, and the failure stands without them
        return ""


def _name(mismatch: object) -> str:
    """The name or address that the certificate had to have."""
    expected = getattr(mismatch, "mismatched_id", None)
    name = getattr(expected, "hostname", None) or getattr(expected, "ip", None)
    return name.decode("latin-1") if isinstance(name, bytes) else str(name or "")
