"""From an address to what it is: mailbox, list, service, unknown or foreign; and the cache in front of the sources."""
