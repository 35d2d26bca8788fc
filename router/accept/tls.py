"""
The certificate of a listener, as it is now.

Guarantees: TLS 1.2 or newer; a reload either takes effect for all later handshakes or leaves the former certificate
in force. On failure: `TlsUnusable`, whose text is for an operator; connections get 454 only if there never was a
usable certificate.
"""

import ssl

from router.settings.schema import TlsServer


class TlsUnusable(Exception):
    """Certificate or key cannot be read, or they do not belong together."""


class TlsHolder:
    """One listener's TLS. `context` is None until a certificate has been loaded."""

    def __init__(self, server: TlsServer) -> None:
        self._server = server
        self.context: ssl.SSLContext | None = None

    def load(self) -> None:
        """
        Read certificate and key, at start and again on reload. Raises `TlsUnusable`; the old ones stay in force.

        Reads two small files: call it in a thread where the event loop is busy.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            context.load_cert_chain(self._server.certificate, self._server.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise TlsUnusable(f"{self._server.certificate}, {self._server.key}: {error}") from error
        self.context = context


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal and block the daemon; a daemon's key has no passphrase."""
    raise ValueError("the key is encrypted")
