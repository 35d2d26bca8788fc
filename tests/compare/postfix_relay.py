"""
Debian's Postfix for the comparison, with its defaults: what is set is only where mail goes and who may send it.

Everybody but 127.0.0.2 is a stranger, who may send to our domain; so the limits for strangers are in force.
"""

import subprocess

from support.postfix_peer import Instance

from compare.relay import DOMAIN, SIZE_LIMIT, Missing, Place, free_port, queued_in, tail
from router.ledger.book import Ledger


class PostfixRelay:
    """See the module's text."""

    name = "Postfix"

    def __init__(self, place: Place) -> None:
        self.port = free_port()
        table = " ".join(f"{{ {who} = smtp:[127.0.0.1]:{place.hops[hop]} }}" for who, hop in place.homes.items())
        first = next(iter(place.hops.values()))
        settings = {
            "mynetworks": "127.0.0.2/32",
            "relay_domains": DOMAIN,
            "relayhost": f"[127.0.0.1]:{first}",
            "transport_maps": f"inline:{{ {table} }}",
            "message_size_limit": SIZE_LIMIT,
            **place.settings,
        }
        place.state.mkdir(exist_ok=True)
        place.state.chmod(0o755)
        self.instance = Instance(place.directory, self.port, settings, state=place.state)

    def version(self) -> str:
        found = subprocess.run(
            ["/usr/sbin/postconf", "-d", "-h", "mail_version"], check=True, capture_output=True, text=True
        )
        return f"Postfix {found.stdout.strip()} of Debian"

    def start(self) -> None:
        self.instance.start()

    def stop(self) -> None:
        self.instance.stop()

    def killed(self) -> None:
        """Nothing is left to do: `postfix start` finds that the lock is free."""

    def queued(self) -> int:
        return len(self.instance.files())

    def aside(self) -> int:
        return len(self.instance.aside())

    def flush(self) -> None:
        self.instance.flush()

    def tell(self, ledger: Ledger, missing: Missing) -> None:
        ledger.kept(queued_in(self.instance.queue, missing))

    def leave_disk(self) -> None:
        """Nothing is open."""

    def told(self) -> str:
        return tail(self.instance.log)

    def close(self) -> None:
        """Its processes end with the group."""
