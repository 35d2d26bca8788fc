"""Routing state: mailboxes, holds, epochs, members, the barrier, requests, alarms and audit in the control database."""
