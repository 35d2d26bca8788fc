"""Sluice: the SMTP relay at the primary MX while mailboxes move from old hosts to new ones."""

__version__ = "0.1.0"
