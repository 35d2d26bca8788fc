"""Pure decisions: an address's classification, the state of its mailbox and the time give exactly one route."""
