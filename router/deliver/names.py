"""
Host names to addresses: the system's resolver for hosts of the configuration, dnspython for mail that leaves.

Guarantees: no lookup blocks the event loop and none takes longer than its deadline; the number of remembered answers
is bounded. Tests build both with name servers of their own, so that the system's configuration leaks into none of
them (TX15).

On failure `NameFault`, which says whether the name certainly does not exist; everything else is doubt.
"""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

MAX_ADDRESSES = 50
_REMEMBERED = 1000


class NameFault(Exception):
    """The lookup gave no address. `absent`: an authority said that there is no such name or record."""

    def __init__(self, text: str, *, absent: bool = False) -> None:
        super().__init__(text)
        self.absent = absent


def literal(host: str) -> str | None:
    """The address if `host` is one (bare, or in the brackets of RFC 5321 4.1.3), else None."""
    text = host.removeprefix("[").removesuffix("]")
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


class SystemNames:
    """
    getaddrinfo on two threads of its own, with a memory: `fresh` seconds as the answer, and up to `stale` seconds as
    a stand-in when the resolver fails, since a store's address outlives most outages of DNS.
    """

    def __init__(self, deadline: float = 10.0, fresh: float = 60.0, stale: float = 3600.0) -> None:
        self._deadline = deadline
        self._fresh = fresh
        self._stale = stale
        self._threads = ThreadPoolExecutor(2, "resolve")
        self._memory: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Addresses in the system's order of preference, at most 50. Raises `NameFault`."""
        if (address := literal(host)) is not None:
            return (address,)
        age, known = self._known(host)
        if known and age < self._fresh:
            return known
        try:
            found = await self._ask(host)
        except NameFault:
            if known and age < self._stale:
                return known
            raise
        if len(self._memory) >= _REMEMBERED:
            self._memory.clear()
        self._memory[host] = (time.monotonic(), found)
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _known(self, host: str) -> tuple[float, tuple[str, ...]]:
        at, known = self._memory.get(host, (0.0, ()))
        return time.monotonic() - at, known

    async def _ask(self, host: str) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline):
                return await loop.run_in_executor(self._threads, _getaddrinfo, host)
        except TimeoutError:
            raise NameFault(f"lookup of {host} timed out") from None
        except socket.gaierror as error:
            raise NameFault(f"lookup of {host} failed: {error.strerror}", absent=_absent(error)) from error
        except (OSError, UnicodeError) as error:
            raise NameFault(f"lookup of {host} failed") from error


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One MX record."""

    preference: int
    host: str


class Dns:
    """MX and address lookups through dnspython with one deadline for each question and its cache of 1,000 answers."""

    def __init__(self, nameservers: tuple[str, ...] = (), *, port: int = 53, deadline: float = 10.0) -> None:
        # Without servers of our own this reads resolv.conf now; a missing one is an empty list, and every lookup fails.
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if nameservers:
            self._resolver.nameservers = list(nameservers)
        else:
            self._resolver.read_resolv_conf("/etc/resolv.conf")
        self._resolver.port = port
        self._resolver.lifetime = deadline
        self._resolver.cache = dns.resolver.LRUCache(_REMEMBERED)
        self._deadline = deadline

    async def exchangers(self, domain: str) -> tuple[Exchanger, ...] | None:
        """The MX records, None if the domain exists and has none. Raises `NameFault`."""
        answer = await self._ask(domain, "MX")
        if answer is None:
            return None
        return tuple(Exchanger(one.preference, one.exchange.to_text(omit_final_dot=True) or ".") for one in answer)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """A, then AAAA. Raises `NameFault`; `absent` only if neither exists for certain."""
        if (address := literal(host)) is not None:
            return (address,)
        found: list[str] = []
        fault: NameFault | None = None
        for kind in ("A", "AAAA"):
            try:
                found += [one.address for one in await self._ask(host, kind) or ()]
            except NameFault as error:
                if fault is None or fault.absent:
                    fault = error
        if found:
            return tuple(found[:MAX_ADDRESSES])
        raise fault or NameFault(f"{host} has no address", absent=True)

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | None:
        try:
            # dnspython's own lifetime has been known to miss (TX14).
            async with asyncio.timeout(self._deadline + 1.0):
                return await self._resolver.resolve(name.rstrip(".") + ".", kind, search=False)
        except dns.resolver.NXDOMAIN:
            raise NameFault(f"{name} does not exist", absent=True) from None
        except dns.resolver.NoAnswer:
            return None
        except (dns.exception.DNSException, OSError, ValueError) as error:
            # SERVFAIL, timeouts, loops of CNAMEs, labels that are too long: all doubt. TimeoutError is an OSError.
            raise NameFault(f"lookup of {kind} for {name} failed ({type(error).__name__})") from error


def _getaddrinfo(host: str) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]


def _absent(error: socket.gaierror) -> bool:
    return error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
