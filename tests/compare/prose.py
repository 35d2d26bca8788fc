"""
What the page of the comparison says beside its figures.

It holds for the versions that the page names. Whoever compares others reads it again.
"""

HEAD = """\
# Comparison with other relays

The same kills, power cuts, full disks, hostile clients and smuggling for Sluice and for the mail servers of Debian 12,
in the same harness, judged by the same ledger. This page is written by the tool:

```
./dev compare                                       # all of it; the page is written anew
./dev compare --rounds 50 --only kill,cut           # more kills and cuts; other figures stay as they are
./dev compare --relays sluice,postfix --only full
```

It needs root, loop devices, a control group, and Debian's Postfix. Exim and OpenSMTPD cannot be installed beside it:
their packages are fetched and unpacked below `var/compare`, and run in a mount namespace of their own. What was seen is
kept in `var/compare/results.json`.

Each relay has its queue below one directory (for cuts and full disks, on an ext4 of its own), one listener, and two
next hops on loopback between which it routes by recipient. A recipient counts as *acknowledged* after 250 to its RCPT
and to the final dot, and as *lost* when no next hop said 250 to it and it is not in the queue either. What
*came twice* may do so at the moment of a fault: nobody can know whether the next hop has it."""

KILL = """\
## Kills

SIGKILL to every process of the relay, 0.2 to 1.2 s after load began, so many times. In every second round the next hops
are silent until then, so that all mail has to survive in the queue."""

CUT = """\
## Power cuts

The ext4 below the queue is shut down without flushing its log, 0.2 to 1 s after load began; then everything is killed,
the disk is mounted again, and the queue is delivered. What a client was told after the cut does not count as told: the
kernel of this test lives on, that of a machine without power does not. Clients that were not answered are no loss."""

FULL = """\
## A full disk

The next hops are silent, clients send, and somebody else takes the last octet of the disk (96 MB), that which ext4
keeps for root, too. Three seconds later the next hops take mail again, and 20 s later, or as soon as the queue is
empty, there is space again. The limit for a message is 10 MB, so that each relay may see the shortage coming."""

HOSTILE = """\
## Hostile clients

Each relay with its own default limits, started anew for each attack. In answers, codes are those that a connection
heard, in order of their first time; in brackets, how many connections. *open* means that the relay had not closed at
the end of the attack (20 s for idle clients and floods, 3 to 5 s for those who talk out of turn)."""

TAKEN = "Messages that were taken from those who spoke out of turn, and came to a next hop:"
OUT_OF_TURN = ("out_of_turn", "web_form", "early_talk")

ORDINARY = """\
An ordinary client from another address meanwhile: seconds from its first connection to 250, median and slowest, and how
many messages it could hand over. It tries again when it is turned away."""

MEMORY = "Memory of all processes of the relay together, file cache apart: before the attack, and at most."

ATTACKS = {
    "endless_line": "12 x a command of 10 MiB without an end",
    "endless_recipients": "12 x 2,001 recipients",
    "endless_greetings": "12 x 50,000 EHLO",
    "endless_noops": "12 x 50,000 NOOP",
    "endless_text": "12 x a line of 32 MiB as text",
    "out_of_turn": "12 x EHLO, envelope and text in one segment",
    "web_form": "12 x POST of HTTP with SMTP in it",
    "early_talk": "30 x all of it before the greeting",
    "slow_drip": "100 x one octet a second, 10 addresses",
    "idle_from_one": "2,000 x nothing, one address",
    "idle_from_many": "2,000 x nothing, 100 addresses",
}

SMUGGLING = """\
## Smuggling

Twenty look-alikes of an end of data with a second message behind each, from a stranger, in one segment and octet by
octet. The next hop takes nothing but `CR LF . CR LF` for the end. One message is right, and so is a refusal."""

TAIL = """\
## What explains some of it

- strace shows no fsync and no fdatasync in OpenSMTPD between a message and its 250. After a cut it has what the kernel
  had written by itself.
- Messages that Postfix sets aside as damaged after a cut are files of clients that had no answer yet: size and mode of
  the file were in the file system's log, its octets were not on the disk.
- After a disk was full, Exim's deliveries wait for each other at the lock of a hints database (`db/wait-smtp_…`). The
  mail is in its queue, and it takes more.
- Postfix ends a line at LF, and so a message at what looks like its end, unless `smtpd_forbid_bare_newline` is set. Its
  default is off in this version, and its authors recommend to turn it on.
- Postfix and Exim have a process for each client, Postfix up to 100, Exim up to 20. Who takes all of them, silently,
  makes others wait, or turns them away. Sluice and OpenSMTPD have one process for all clients.
- Sluice ends the connection with 554 on those who do not wait for the greeting, or for 354; Postfix has
  `reject_unauth_pipelining` and postscreen for it, which are not on by default.

## Where the others are better

- **Memory at rest.** Postfix and OpenSMTPD need a tenth of what Sluice needs, Exim a sixth. Sluice is Python, and
  three processes of it are there before the first message. It grows little under attack; others grow with each client.
- **Time to start.** They greet in some tenths of a second, Sluice after one second of processor time, and on a busy
  machine later. After a kill of everything that is time in which no mail is taken. (The figures of this page are from
  before its workers were forked by a nursery: then it was two seconds, and 6 MiB less at rest.)
- **Patience.** Postfix answers one EHLO after the other, and takes mail from those who do not wait for a reply. Sluice
  ends the connection, which a client that is only clumsy may mind.
- **Years.** Their code has met more networks, disks and clients than any harness has. What is shown here is one machine
  and a few thousand messages.
- **Width.** They deliver to MX hosts all over the world with all that belongs to it; Sluice delivers to a few stores.

## What was not equalised

- Each relay has its defaults (those of its source where Debian's installer would ask questions). Set are only names,
  addresses, where mail goes, who may send, the limit of 10 MB for a message and, for Exim, a queue run every five
  seconds instead of half an hour. Postfix keeps `in_flow_delay`, so that it slows clients down who are faster than it.
- Sluice has the short retry times of its tests. Postfix and OpenSMTPD are told to try their whole queue when a fault is
  over; Exim does so with each of its queue runs, and may try again after a second.
- Sluice looks every recipient up in its database and keeps a journal; Postfix, Exim and OpenSMTPD have a table of six
  addresses. Nobody offers TLS. Nothing filters.
- The moments of a kill count from when a relay greets, so that a slow start does not make a kill harmless.
- The number of acknowledged recipients says how much was under way. It is no benchmark: other work was on the machine.
- All of it ran as root on one machine, on ext4. Torn sectors and disks that lie about flushes were not tested.
- The kernel of a cut goes on: a sync that is under way then may return as if it had worked. So only what a client had
  heard before the cut counts as acknowledged, for all of them.
"""
