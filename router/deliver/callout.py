"""
Asking a store whether it takes mail for an address: MAIL with the null sender and one RCPT, never DATA.

Guarantees: the reply is the one to RCPT; a no at an earlier step is told in words of our own as a temporary failure,
because it is not about the address. On failure: the same; nothing raises but cancellation.
"""

from router.deliver.connection import ConnectFailed, Connection, Connector, Timeouts
from router.deliver.protocol import Broken
from router.deliver.replies import hop_reply, own_reply
from router.deliver.resolve import HostSource, ResolveFailed
from router.model.address import Address
from router.model.reply import HopReply

_STEP = 10.0
"""Seconds for each reply: a person's mail client is waiting behind the RCPT that asked."""


class Callout:
    """Callouts to the hosts of one store, each over a connection of its own."""

    def __init__(self, hosts: HostSource, connector: Connector, timeouts: Timeouts) -> None:
        self._hosts = hosts
        self._connector = connector
        self._timeouts = timeouts

    async def ask(self, address: Address) -> HopReply:
        """The store's reply to RCPT, or why it could not be asked."""
        try:
            endpoints = await self._hosts.endpoints()
        except ResolveFailed as failure:
            return own_reply("4.4.3", failure.reply.text)
        reply = own_reply("4.4.1", "the store has no hosts")
        for endpoint in endpoints:
            try:
                connection = await self._connector.open(endpoint, _nowhere)
            except ConnectFailed as failure:
                reply = failure.reply
                continue
            try:
                return await self._dialogue(connection, address)
            except Broken as fault:
                reply = fault.said(str(endpoint), "asking for a recipient")
            finally:
                await connection.quit(self._timeouts.quit)
        return own_reply(reply.enhanced if reply.enhanced.startswith("4") else "4.4.1", reply.text, reply.remote)

    async def _dialogue(self, connection: Connection, address: Address) -> HopReply:
        remote = str(connection.endpoint)
        if not address.ascii and not connection.extensions.smtputf8:
            # A store that cannot read the address says no to its form, not to the person.
            return own_reply("4.6.7", f"{remote} offers no SMTPUTF8", remote)
        parameters = b"" if address.ascii else b" SMTPUTF8"
        mail = await connection.protocol.ask(b"MAIL FROM:<>" + parameters, _STEP)
        if mail.digit != 2:
            return own_reply("4.1.8", f"{remote} refused the null sender", remote)
        asked = await connection.protocol.ask(b"RCPT TO:<" + address.wire.encode() + b">", _STEP)
        return hop_reply(asked, remote)


def _nowhere(_stage: str) -> None:
    """A callout is no delivery: nobody follows its stages."""
