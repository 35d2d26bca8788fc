"""
The kinds of alarm, and for each the sentence that tells an operator what to do.

An alarm is a row (kind, key, first, last, count) in the control database and one log line; this module only names
them. Guarantees: kinds are stable names, part of the `--json` interface; every kind has a remedy.
"""

from dataclasses import dataclass
from enum import StrEnum

from router.report.escape import one_line


class AlarmKind(StrEnum):
    """What is wrong. The key of an alarm says with what: a mailbox, store, address, spool or host."""

    LOOP = "loop"
    PROTECTED_REFUSAL = "protected-refusal"
    UNMAPPED_HOME = "unmapped-home"
    BAD_ROUTE_DATA = "bad-route-data"
    CORRUPT_BODY = "corrupt-body"
    CORRUPT_ROW = "corrupt-row"
    STORE_DOWN = "store-down"
    NEXT_HOP_IS_US = "next-hop-is-us"
    HOLD_OVERDUE = "hold-overdue"
    IN_DOUBT = "in-doubt"
    EMPTY_DOMAIN = "empty-domain"
    CONTROL_DOWN = "control-down"
    RESTORED = "restored"
    SPOOL_SPACE = "spool-space"
    SPOOL_ERROR = "spool-error"
    SPOOL_DAMAGED = "spool-damaged"
    WORKER_CRASHING = "worker-crashing"
    MEMBER_SILENT = "member-silent"
    CONFIGURATION = "configuration"
    INTERNAL = "internal"
    UNFIT = "store-unfit"
    TLS_FALLBACK = "tls-fallback"
    HOST_NOT_FOUND = "host-not-found"
    FORWARD_LOOP = "forward-loop"
    DIRECTORY_DOWN = "directory-down"
    DIRECTORY_DRIFT = "directory-drift"
    DIRECTORY_DISPUTE = "directory-dispute"
    DIRECTORY_PROBLEM = "directory-problem"
    DIRECTORY_DOUBT = "directory-doubt"
    DIRECTORY_LOSS = "directory-loss"

    @property
    def remedy(self) -> str:
        """What an operator does about it."""
        return _REMEDIES[self]


_REMEDIES = {
    AlarmKind.LOOP: "A store sent the message back to where it came from: correct the forward there, "
    "then `sluice queue requeue` the parked message.",
    AlarmKind.PROTECTED_REFUSAL: "The store refused mail for a mailbox that is being moved: create or repair the "
    "mailbox there, then `sluice queue requeue` its parked mail. Nothing was returned to senders.",
    AlarmKind.UNMAPPED_HOME: "The directory names a home that is no store in the configuration: add the store, or "
    "correct the entry. Mail waits.",
    AlarmKind.BAD_ROUTE_DATA: "The sources contradict each other about an address: `sluice route ADDRESS` shows how. "
    "Mail waits.",
    AlarmKind.CORRUPT_BODY: "A stored message does not match its checksum and is in quarantine: check the disk, and "
    "recover it from a backup or ask the sender to send it again.",
    AlarmKind.CORRUPT_ROW: "A row of the spool makes no sense and is in quarantine: check the disk, and look at it "
    "with `sluice queue show`.",
    AlarmKind.STORE_DOWN: "No host of the store answers: mail for it waits. Check the store with `sluice store test`.",
    AlarmKind.NEXT_HOP_IS_US: "The hosts of the store or domain lead back to this relay: correct hosts or MX records. "
    "Mail waits.",
    AlarmKind.HOLD_OVERDUE: "A hold is past its deadline: finish the move with `sluice release ADDRESS --to STORE`, or "
    "end it with `sluice release ADDRESS`. Mail is kept until then.",
    AlarmKind.IN_DOUBT: "A store took a message but its reply was lost: look for a duplicate of the message named, "
    "and compare the copy of the mailbox.",
    AlarmKind.EMPTY_DOMAIN: "No source knows anybody in the domain, so its mail gets 451: check the import or the "
    "search base.",
    AlarmKind.CONTROL_DOWN: "The control database cannot be read: nothing is delivered to mailboxes until it can.",
    AlarmKind.RESTORED: "The control database is not the one the spool knows, or an older copy of it: check holds and "
    "homes, then `sluice check --accept-restored`. Until then mail is accepted and kept.",
    AlarmKind.SPOOL_SPACE: "The disk of the spool is nearly full: new mail is taken slowly, or gets 452. Make room.",
    AlarmKind.SPOOL_ERROR: "The spool reported an I/O error: new mail gets 451. Check disk and kernel log, then "
    "restart.",
    AlarmKind.SPOOL_DAMAGED: "A spool was found damaged and was set aside; a new one takes its place. Check the disk, "
    "then `sluice queue recover DIRECTORY` brings back the mail that can be read.",
    AlarmKind.WORKER_CRASHING: "A worker ends again and again at the same spool and runs in single steps: look at the "
    "message named.",
    AlarmKind.MEMBER_SILENT: "A worker does not acknowledge changes: commands wait for it. It is being ended.",
    AlarmKind.TLS_FALLBACK: "A host failed the TLS handshake and gets mail in plaintext for ten minutes: mend its "
    "certificate, or set `tls: require` for the store.",
    AlarmKind.HOST_NOT_FOUND: "A host of the configuration has no address: correct its name, or the DNS. Mail waits.",
    AlarmKind.FORWARD_LOOP: "Forwards lead in a circle, or over too many steps: mend the forwarding addresses of the "
    "mailbox named; `sluice route ADDRESS` shows the chain. Mail waits.",
    AlarmKind.DIRECTORY_DOWN: "The directory cannot be read: mend it, or the way to it; `sluice check --live` tells "
    "more. Holds set there by others are not seen meanwhile.",
    AlarmKind.DIRECTORY_DRIFT: "The directory says otherwise of a mailbox that a command holds: nothing was changed "
    "and its mail stays. Find out who wrote there, then `sluice release ADDRESS`, with --to STORE to set the home.",
    AlarmKind.DIRECTORY_DISPUTE: "Several mailboxes have one address: take it from all but one of the entries named. "
    "Mail for it waits.",
    AlarmKind.DIRECTORY_PROBLEM: "An entry of the directory makes no sense: mend the attribute named. Mail for it "
    "waits.",
    AlarmKind.DIRECTORY_DOUBT: "Something is wrong with an entry of the directory, and mail flows all the same: mend "
    "the attribute named.",
    AlarmKind.DIRECTORY_LOSS: "Many people of the domain are not in the directory any more, and none was removed here: "
    "bring them back there; only if they are really gone, `sluice check --accept-loss DOMAIN --reason TEXT`.",
    AlarmKind.UNFIT: "A store is not able to take a message as it is (its size limit, 8-bit or internationalised "
    "mail): raise the limits there and `sluice queue requeue` the parked message. Nothing was returned to the sender.",
    AlarmKind.INTERNAL: "An error of Sluice itself put a message off: report it with the log lines of that message.",
    AlarmKind.CONFIGURATION: "The configuration on disk was refused and the former one stays in force: run "
    "`sluice check`.",
}


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """Something happened that an operator must see. `detail` is for a person, one line."""

    kind: AlarmKind
    key: str
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({one_line(self.detail, 500)})" if self.detail else ""
        return f"alarm: {self.kind.value} {one_line(self.key)}{detail}: {self.kind.remedy}"
