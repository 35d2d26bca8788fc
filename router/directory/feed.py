"""
What has changed in a directory, by asking for what is newer than what was seen; and all there is, page by page.

Guarantees: no addition or change is missed on a server that keeps an order of changes (see `position`); a sweep ends
normally only when the directory was read to its end, on the server that the cookie before it came from. Deletions are
not told by a poll. A server is kept as long as it answers; another one means `resweep`, because no two replicas have
got equally far.

On failure: `LookupFailed`, and every method may be repeated. Each page has its own deadline (`deadline`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

from router.directory.connection import LdapConnection
from router.directory.faults import Fault, Lost, TimedOut, Troubled
from router.directory.meaning import Meaning
from router.directory.position import (
    OVERLAP,
    Position,
    bound,
    by_server,
    earlier,
    keeps_up,
    parse_position,
    went_back,
)
from router.directory.rota import Rota
from router.directory.search_message import Question
from router.directory.told import Told
from router.directory.versions import CHANGE_ATTRIBUTES, ENTRY_CSN, USN_CHANGED, change_attributes, version_of
from router.model.directory import Cookie, DirectoryItem, Polled, RawEntry, Unplaced
from router.settings.directory import Ldap

MOST_CHANGES = 10_000
"""Entries that one poll tells of; more of them are a sweep's business."""
_WINDOWS = (60.0, 3600.0, 86400.0, 30 * 86400.0)
"""Seconds before now in which the newest entry is looked for, before all entries are asked."""
_CONTEXT, _PEAK = "contextCSN", "highestCommittedUSN"
T = TypeVar("T")


class LdapFeed:
    """A `DirectoryFeed`. Sweeps have a connection of their own, so that polls may go on meanwhile."""

    def __init__(self, source: Ldap, meaning: Meaning, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._meaning = meaning
        self._clock = clock
        self._rota = Rota(source.uri, clock)
        self._attributes = tuple(dict.fromkeys((*meaning.attributes(), *CHANGE_ATTRIBUTES)))
        self._told = Told()
        self._server = ""
        """Where the last cookie came from."""
        self._held: LdapConnection | None = None
        self._newest_seen = ("", clock())
        """The newest value, and when it was first seen."""

    def poll(self, since: Cookie) -> Polled:
        """As `DirectoryFeed.poll`; `resweep` also when more has changed than a poll can tell."""
        position = parse_position(since.value)
        if position is None or position.attribute not in change_attributes(self._source.change_attribute):
            return Polled((), since, resweep=True)
        return self._with_server(lambda connection: self._poll(connection, since, position), since.server)

    def cookie(self) -> Cookie:
        """As `DirectoryFeed.cookie`: to be taken before every sweep, for the server that the sweep will read."""
        return self._with_server(self._cookie, self._server)

    def sweep(self) -> Iterator[Sequence[DirectoryItem | Unplaced]]:
        """As `DirectoryFeed.sweep`."""
        uri = self._server or self._rota.order()[0]
        try:
            with closing(self._open(uri)) as connection:
                for page in self._pages(connection, self._meaning.all_filter(), self._attributes):
                    items = (self._meaning.item(raw) for raw in page)
                    yield tuple(item for item in items if item is not None)
        except Fault:
            self._rota.failed(uri)
            raise

    def close(self) -> None:
        """Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    # --- polling

    def _poll(self, connection: LdapConnection, since: Cookie, position: Position) -> Polled:
        if connection.uri != since.server:
            return Polled((), since, resweep=True)
        began = self._clock()
        complete, peak = self._progress(connection, position.attribute)
        if went_back(position, complete) or (peak and peak < position.newest):
            return Polled((), since, resweep=True)
        self._told.begin(since.value)
        changed: list[RawEntry] = []
        newest = peak
        query = _since(self._meaning.all_filter(), position.attribute, bound(position, complete))
        for page in self._pages(connection, query, self._attributes):
            newest = max([newest, *(version_of(raw.attributes, (position.attribute,)) for raw in page)])
            changed += [raw for raw in page if self._told.new(raw)]
            if len(changed) > MOST_CHANGES:
                return Polled((), since, resweep=True)
        if newest < position.newest and not self._still_there(connection, position, complete):
            return Polled((), since, resweep=True)
        newest, serial = max(newest, position.newest), position.serial + bool(changed)
        settled = newest if self._in_force(began, newest, complete) else position.settled
        after = Position(position.attribute, newest, serial, complete, settled)
        self._told.end(str(after))
        return self._polled(changed, Cookie(connection.uri, str(after)))

    def _polled(self, changed: Sequence[RawEntry], cookie: Cookie) -> Polled:
        items = [item for raw in changed if (item := self._meaning.item(raw)) is not None]
        placed = tuple(item for item in items if not isinstance(item, Unplaced))
        return Polled(placed, cookie, unplaced=tuple(item for item in items if isinstance(item, Unplaced)))

    def _still_there(self, connection: LdapConnection, position: Position, complete: Mapping[str, str]) -> bool:
        """
        Whether the newest entry of before is. If not, it was deleted, or the whole directory is an older one; a server
        that keeps contextCSN tells the two apart by that.
        """
        if keeps_up(position.newest, complete):
            return True
        query = _since(self._meaning.all_filter(), position.attribute, position.newest)
        areas = self._areas(query, (position.attribute,))
        return any(connection.page(area, self._until(), 1).entries for area in areas)

    def _in_force(self, began: float, newest: str, complete: Mapping[str, str]) -> bool:
        """Whether a read that began then met every change up to `newest`: those in the making have had their time."""
        if newest != self._newest_seen[0]:
            self._newest_seen = (newest, began)
        return keeps_up(newest, complete) or began - self._newest_seen[1] >= OVERLAP

    # --- where to begin

    def _cookie(self, connection: LdapConnection) -> Cookie:
        attribute = self._detect(connection)
        complete, peak = self._progress(connection, attribute)
        newest = peak or self._newest(connection, attribute)
        settled = newest if self._in_force(self._clock(), newest, complete) else ""
        return Cookie(connection.uri, str(Position(attribute, newest, 0, complete, settled)))

    def _detect(self, connection: LdapConnection) -> str:
        """The attribute that tells changes here, from the first entry there is."""
        names = change_attributes(self._source.change_attribute)
        for question in self._areas(self._meaning.all_filter(), names):
            for raw in connection.page(question, self._until(), 1).entries:
                for name in names:
                    if raw.attributes.get(name.lower()):
                        return name
                raise Troubled(f"the entries have none of {', '.join(names)} that we may read, so changes go unseen")
        return names[0] if len(names) == 1 else CHANGE_ATTRIBUTES[-1]

    def _progress(self, connection: LdapConnection, attribute: str) -> tuple[dict[str, str], str]:
        """What the server says of itself: contextCSN by server id, or the highest USN; nothing where it does not."""
        if attribute == ENTRY_CSN:
            complete: dict[str, str] = {}
            for number, area in enumerate(self._areas("(objectClass=*)", (_CONTEXT,))):
                for raw in connection.search(replace(area, whole=False), self._until()):
                    told = by_server(raw.attributes.get(_CONTEXT.lower(), ()))
                    complete |= {f"{number}.{sid}": csn for sid, csn in told.items()}
            return complete, ""
        if attribute == USN_CHANGED:
            root = Question("", "(objectClass=*)", (_PEAK,), whole=False)
            for raw in connection.search(root, self._until()):
                values = raw.attributes.get(_PEAK.lower())
                return {}, version_of({USN_CHANGED.lower(): values}) if values else ""
        return {}, ""

    def _newest(self, connection: LdapConnection, attribute: str) -> str:
        """The greatest value there is; '' in an empty directory. The windows only save time: no clock is believed."""
        everything = self._meaning.all_filter()
        now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime())
        lows = [] if attribute == USN_CHANGED else [earlier(attribute, now, window) for window in _WINDOWS]
        for low in (*lows, ""):
            pages = self._pages(connection, _since(everything, attribute, low), (attribute,))
            newest = max((version_of(raw.attributes, (attribute,)) for page in pages for raw in page), default="")
            if newest:
                return newest
        return ""

    # --- asking

    def _with_server(self, work: Callable[[LdapConnection], T], prefer: str) -> T:
        """`work` on the first server that answers, `prefer` if it does; on a new connection after any error."""
        failure: Fault = Lost("there is no server")
        for uri in self._rota.order(prefer):
            try:
                return self._on(uri, work)
            except Fault as error:
                self._rota.failed(uri)
                failure = error
        raise failure

    def _on(self, uri: str, work: Callable[[LdapConnection], T]) -> T:
        held, self._held = self._held, None
        if held is not None and held.uri == uri:
            try:
                return self._keep(held, work)
            except TimedOut:
                raise
            except Lost:
                pass  # closed by the server while nobody used it, most often
        elif held is not None:
            held.close()
        return self._keep(self._open(uri), work)

    def _keep(self, connection: LdapConnection, work: Callable[[LdapConnection], T]) -> T:
        try:
            result = work(connection)
        except BaseException:
            connection.close()
            raise
        self._rota.worked(connection.uri)
        self._held, self._server = connection, connection.uri
        return result

    def _open(self, uri: str) -> LdapConnection:
        return LdapConnection(self._source, uri, self._until())

    def _until(self) -> float:
        return self._clock() + self._source.deadline

    def _areas(self, query: str, attributes: Sequence[str]) -> list[Question]:
        base, domains = self._source.base, self._source.domain_base
        bases = [base] if not domains or domains.lower().endswith(base.lower()) else [base, domains]
        return [Question(one, query, tuple(attributes)) for one in bases]

    def _pages(self, connection: LdapConnection, query: str, attributes: Sequence[str]) -> Iterator[Sequence[RawEntry]]:
        for question in self._areas(query, attributes):
            cookie = b""
            while True:
                page = connection.page(question, self._until(), self._source.page_size, cookie)
                yield page.entries
                if not page.cookie:
                    break
                cookie = page.cookie


def _since(query: str, attribute: str, low: str) -> str:
    """`query`, only for what is not older; the values hold nothing that needs escaping."""
    if attribute == USN_CHANGED and low:
        low = str(int(low))  # a number may not begin with zeros (RFC 4517, 3.3.16)
    return f"(&({attribute}>={low}){query})" if low else query
