"""
Smuggling: each look-alike of an end of data, with a second message behind it, in one segment and octet by octet.

A stranger sends it. Judged is what the next hop saw, which takes nothing but <CR><LF>.<CR><LF> for the end.
"""

import asyncio
from collections.abc import Mapping

from support.smuggling import VARIANTS, shown, ways

from compare.bout import Bout, Make
from compare.callers import Caller
from compare.figures import Smuggled

SETTINGS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "postfix": {"": {}, "smtpd_forbid_bare_newline = normalize": {"smtpd_forbid_bare_newline": "normalize"}}
}
"""Settings tried beside the defaults, by relay."""
_OUTER = b"X-Ledger: smuggler-%d\r\nSubject: outer\r\n\r\none\r\ntwo"
_INNER = (
    b"MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<p1@example.edu>\r\nDATA\r\n"
    b"X-Ledger: smuggled-%d\r\nSubject: inner\r\n\r\nfrom nobody\r\n.\r\n"
)


async def smuggled(make: Make, settings: Mapping[str, object]) -> Smuggled:
    """Every look-alike at one relay."""
    async with Bout(make, settings=settings) as bout:
        await bout.start()
        refused: set[int] = set()
        cases: dict[int, int] = {}
        for kind, variant in enumerate(VARIANTS):
            for way in (0, -1):
                number = len(cases)
                cases[number] = kind
                if await _offered(bout, number, variant, way):
                    refused.add(kind)
        left = await bout.drained(30)
        assert not left, f"{left} are left\n{bout.relay.told()}"
        arrived = {one.tag for records in bout.records.values() for one in records}
        bare = {tag for records in bout.records.values() for tag in records.bare}
        split = {kind for number, kind in cases.items() if f"smuggled-{number}" in arrived}
        passed = {kind for number, kind in cases.items() if f"smuggler-{number}" in bare}
        return Smuggled(len(cases), _names(split), _names(refused), _names(passed))


async def _offered(bout: Bout, number: int, variant: bytes, way: int) -> bool:
    """One message with something behind the look-alike; whether it was refused as a whole."""
    whole = _OUTER % number + variant + _INNER % number
    caller = await Caller.dial(bout.relay.port, "127.0.0.9")
    try:
        await caller.greeting()
        for command in (b"EHLO x.example\r\n", b"MAIL FROM:<a@outside.example>\r\n", b"RCPT TO:<p0@example.edu>\r\n"):
            await caller.ask(command)
        await caller.ask(b"DATA\r\n")
        before = caller.codes.get("250", 0)
        for piece in list(ways(whole, variant))[way]:
            await caller.send(piece)
            await asyncio.sleep(0.002)
        await caller.ended(0.5)
        await caller.ask(b"QUIT\r\n", 5)
        return caller.codes.get("250", 0) == before
    finally:
        await caller.hang_up()


def _names(kinds: set[int]) -> tuple[str, ...]:
    return tuple(shown(VARIANTS[kind]) for kind in sorted(kinds))
