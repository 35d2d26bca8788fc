"""
LDAP URIs as the configuration may have them: scheme, host and port, or the path of a local socket (RFC 4516 2).

Guarantees: pure; no part but these is taken: a base, filter or account in a URI is an error and not ignored.

On failure: `BadValue` with the remedy.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote_to_bytes

from router.settings.values import BadValue, parse_host, parse_host_port, shown

PORTS = {"ldap": 389, "ldaps": 636}
DEFAULT_SOCKET = "/var/run/slapd/ldapi"
_REMEDY = "write ldap://HOST, ldaps://HOST or ldapi://%2Fpath%2Fof%2Fsocket"


@dataclass(frozen=True, slots=True)
class LdapUri:
    """Where a server listens. `host` and `port` for `ldap` and `ldaps`, `path` for `ldapi`."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def local(self) -> bool:
        """Whether what is said to it never leaves this machine."""
        if self.scheme == "ldapi" or self.host in {"localhost", "localhost.localdomain"}:
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_ldap_uri(text: str) -> LdapUri:
    """The URI. Raises `BadValue`."""
    scheme, slashes, rest = text.partition("://")
    scheme = scheme.lower()
    if not slashes or scheme not in {"ldap", "ldaps", "ldapi"}:
        raise BadValue(f"{_named(text)} is no LDAP URI", _REMEDY)
    rest = rest.removesuffix("/")
    if any(mark in rest for mark in "@?#/ ") or not (rest.isascii() and rest.isprintable()):
        remedy = "write the base in `base`, the account in `bind_dn`"
        raise BadValue(f"{_named(text)} has more than a host and a port", remedy)
    if scheme == "ldapi":
        return LdapUri(scheme, path=_socket_path(text, rest))
    if not rest:
        raise BadValue(f"{_named(text)} names no host", _REMEDY)
    if rest.endswith("]") or ":" not in rest:
        rest = f"{rest}:{PORTS[scheme]}"
    host, port = parse_host_port(rest)
    return LdapUri(scheme, host if ":" in host else parse_host(host), port)


def _named(text: str) -> str:
    """The URI for an error text, unless there may be a password in it."""
    return shown(text) if "@" not in text else "the URI"


def _socket_path(text: str, rest: str) -> str:
    path = unquote_to_bytes(rest).decode("utf-8", "replace") or DEFAULT_SOCKET
    if not path.startswith("/") or not path.isprintable():
        raise BadValue(f"{_named(text)} names no socket", "write its absolute path with %2F for /")
    return path
