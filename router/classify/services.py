"""
Service addresses: ticket systems and the like, each with a fixed store.

Guarantees: only the address itself is a service (and its sub-addresses, as for anybody); nothing of it can be held.

On failure: `ValueError` at construction for an address that is none, or is given twice in two spellings.
"""

from collections.abc import Mapping

from router.model.address import AddressSyntaxError, parse_address


class ServiceTable:
    """Folded address to store."""

    def __init__(self, services: Mapping[str, str]) -> None:
        """Raises `ValueError`."""
        self._stores: dict[str, str] = {}
        for text, store in services.items():
            try:
                key = parse_address(text).key
            except AddressSyntaxError as error:
                raise ValueError(f"services: {text!r} is not an address: {error}") from error
            if self._stores.setdefault(key, store) != store:
                raise ValueError(f"services: {key} is given to two stores")

    def store(self, key: str) -> str:
        """The store of a folded address, or ''."""
        return self._stores.get(key, "")
