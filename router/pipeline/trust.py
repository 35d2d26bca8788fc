"""
The classifier as one side of the pipeline may believe it: people of a directory that is not followed any more wait.

Guarantees: an answer about a mailbox of a directory is given only while `trusted` says that its data are young enough
for the purpose (barrier.md 13: `stale` for the reply to RCPT, `stale_delivery` for a delivery). Whoever is on hold
stays on hold: that is ours to know. Who is spared (postmaster at RCPT, RFC 5321 4.5.1) is always believed. Nothing is
remembered here, so trust that is lost or comes back counts at once.

On failure: `LookupFailed` from `classify`, as for a directory that does not answer.
"""

from collections.abc import Callable

from router.errors import LookupFailed
from router.model.address import Address
from router.model.route import Classification
from router.ports import Classifier

Trusted = Callable[[str], bool]
"""Whether what a directory, by name, said of its people is believed now. Synchronous and cheap."""


class TrustedClassifier:
    """A `Classifier` in front of another one. `spared` are answers that are given however old they are."""

    def __init__(
        self, classifier: Classifier, trusted: Trusted, spared: Callable[[Classification], bool] | None = None
    ) -> None:
        self._classifier = classifier
        self._trusted = trusted
        self._spared = spared

    def known(self, address: Address) -> Classification | None:
        """As `Classifier.known`; None too where it is known and not believed."""
        found = self._classifier.known(address)
        return found if found is None or self._believed(found) else None

    async def classify(self, address: Address) -> Classification:
        """As `Classifier.classify`. Raises `LookupFailed` for what is known and not believed."""
        found = await self._classifier.classify(address)
        if not self._believed(found):
            source = found.mailbox.source if found.mailbox is not None else found.source
            raise LookupFailed(f"{address.key}: the directory {source} has not been followed for too long")
        return found

    def _believed(self, found: Classification) -> bool:
        mailbox = found.mailbox
        if mailbox is None or mailbox.hold is not None or self._trusted(mailbox.source):
            return True
        return self._spared is not None and self._spared(found)
