"""The sentences of the page of benchmarks; figures come from elsewhere."""

HEAD = """
# Benchmarks

Written by `./dev bench`, which measures Sluice and Debian's Postfix in turn on one machine, round by round. Figures are
medians of the rounds, with the least and the most in brackets. A round counts only when the ledger agrees: every
message that was acknowledged has arrived, once.
"""

EQUAL = """
## What is compared

Both relays get the same people, the same stores and the same load of Postfix's own `smtp-source`; `smtp-sink` is the
store. Both have on the disk what they said 250 to. The load generator and the stores share the cores with the relay, so
the figures are of the whole machine, and lower than those of a relay that has it for itself.

Not equalised:

- Sluice writes a journal row for each delivery and keeps accounts; Postfix does neither.
- Postfix passes every message through five processes of one purpose each, which gives it an isolation that Sluice has
  not.
- Postfix's pause for clients that are faster than its disk (`in_flow_delay`) is off: it would be what is measured.
- Sluice runs two workers, Postfix as many processes as it likes. Neither has a content filter, TLS or DNS lookups.
- Sluice's directory is its own database unless a case says LDAP; Postfix has hash files, or the same LDAP server.
"""

GOALS = """
## Goals

A ratio is Sluice's median through Postfix's, or through Sluice's own in the other case that is named. The floor must be
reached, the goal is what is aimed at.
"""
