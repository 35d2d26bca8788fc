"""Sluice for the comparison: a whole site as in production, one worker, with real fsync."""

from support.site import Site, StoreAt

from compare.relay import SIZE_LIMIT, Missing, Place
from router.ledger.book import Ledger
from router.settings.schema import Limits

# The demo's configuration is generous to clients; these are the product's own limits.
_LIMITS = {"connections_per_client": Limits().connections_per_client, "minimum_free": "1 MiB", "minimum_free_inodes": 0}
_PATIENCE = 120.0
"""Seconds; a start is Python's, and others may use the machine."""


class SluiceRelay:
    """See the module's text."""

    name = "Sluice"

    def __init__(self, place: Place) -> None:
        stores = [StoreAt(name, port, "old") for name, port in place.hops.items()]
        settings = {"message_size_limit": SIZE_LIMIT, "limits": _LIMITS, **place.settings}
        self._site = Site(place.directory, stores, users=place.homes, settings=settings, fresh=True)
        self._site.import_users(dict(place.homes))
        self.port = self._site.port

    def version(self) -> str:
        return "Sluice, this checkout, one worker"

    def start(self) -> None:
        self._site.start(_PATIENCE)

    def stop(self) -> None:
        self._site.stop()

    def killed(self) -> None:
        self._site.kill()

    def queued(self) -> int:
        with self._site.books() as books:
            return books.undelivered()

    def aside(self) -> int:
        with self._site.books() as books:
            totals = books.totals()
            return totals.parked + totals.quarantined

    def flush(self) -> None:
        """Its retries are a second apart in tests."""

    def tell(self, ledger: Ledger, missing: Missing) -> None:
        self._site.tell(ledger)

    def leave_disk(self) -> None:
        self._site.leave_disk()

    def told(self) -> str:
        return self._site.relay.tail()

    def close(self) -> None:
        self._site.close()
