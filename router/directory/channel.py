"""
The socket below an LDAP connection: where a URI leads, TLS, and time limits that hold.

ldap3 opens sockets too, but verifies no certificate unless told to, compares host names by a function that Python has
dropped, and counts its time limit anew for every packet, so that a server which drips keeps a thread for ever.

Guarantees: certificate and host name are verified by OpenSSL (TLS 1.2 and newer), unless `tls_verify` is off; every
single wait ends with the smaller of `patience` and what is left until `until`.

On failure: `Lost`, or `TimedOut`. A name server that does not answer is waited for as long as the system's resolver
likes: nothing can call `getaddrinfo` back.
"""

import contextlib
import math
import socket
import ssl
import time

from router.directory.faults import Lost, TimedOut
from router.directory.printable import printable
from router.settings.directory import Ldap
from router.settings.ldap_uri import parse_ldap_uri


class Channel:
    """
    A connected socket with a deadline; it has the few methods that ldap3 uses.

    `until`: `time.monotonic()` at which every wait ends; to be set before each exchange. `late`: a wait has ended so.
    """

    def __init__(self, source: Ldap, uri: str, until: float) -> None:
        self.until = until
        self.late = False
        self._source = source
        self._place = parse_ldap_uri(uri)
        self._patience = source.connect_timeout
        self._socket = self._connect()
        try:
            if self._place.scheme == "ldaps":
                self.secure()
        except BaseException:
            self.close()
            raise
        self._patience = source.receive_timeout

    def secure(self) -> None:
        """Talk TLS from here on. Raises `Lost` when the server cannot or is not who it should be."""
        try:
            context = tls_context(self._source)
            self._arm()
            self._socket = context.wrap_socket(self._socket, server_hostname=self._place.host)
        except (OSError, ValueError) as error:
            raise self._failed("TLS", error) from error

    def recv(self, size: int) -> bytes:
        """As of a socket. Raises `OSError`, which ldap3 turns into its own."""
        try:
            self._arm()
            return self._socket.recv(size)
        except TimeoutError:
            self.late = True
            raise

    def sendall(self, data: bytes) -> None:
        """As of a socket. Raises `OSError`."""
        try:
            self._arm()
            self._socket.sendall(data)
        except TimeoutError:
            self.late = True
            raise

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """As of a socket; another thread that waits here gets an error at once. Never raises."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        """Never raises."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _connect(self) -> socket.socket:
        if self._place.scheme == "ldapi":
            return self._open(socket.AF_UNIX, 0, self._place.path)
        where = (self._place.host, self._place.port)
        try:
            found = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise self._failed("the name cannot be resolved", error) from error
        failure: Lost | None = None
        for family, _, protocol, _, address in found:
            try:
                return self._open(family, protocol, address)
            except Lost as error:
                failure = error
        raise failure or Lost("the name has no address")

    def _open(self, family: int, protocol: int, address: object) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            self._arm(opened)
            opened.connect(address)  # type: ignore[arg-type]  # what getaddrinfo gave
            if family != socket.AF_UNIX:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            opened.close()
            raise self._failed("no connection", error) from error
        return opened

    def _arm(self, which: socket.socket | None = None) -> None:
        left = min(self._patience, self.until - time.monotonic())
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        (which or self._socket).settimeout(None if math.isinf(left) else left)

    def _failed(self, what: str, error: Exception) -> Lost:
        if isinstance(error, TimeoutError):
            self.late = True
            return TimedOut(f"{what}: no answer in time")
        return Lost(f"{what}: {printable(str(error))}")


def tls_context(source: Ldap) -> ssl.SSLContext:
    """What we believe and show. Raises `OSError` (`ssl.SSLError` is one) when a file cannot be read or used."""
    context = ssl.create_default_context(cafile=str(source.ca_file) if source.ca_file else None)
    if not source.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if source.certificate is not None:
        context.load_cert_chain(str(source.certificate), str(source.key) if source.key else None)
    return context
