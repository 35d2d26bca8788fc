"""
The `ldap:` source of `directory:`: where the servers are, how to log in, what the attributes mean.

Guarantees: an instance is complete. TLS certificates are verified unless that is switched off by name. Times are
seconds. What the presets mean stands in `router.directory.presets`; `homes` maps values of the home attribute to
stores, and host names of stores need no entry there.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag

from router.settings.base import Count, Flag, Number, Seconds, Section
from router.settings.values import BadValue

SchemaName = Literal["sun", "zimbra", "activedirectory", "sendmail"]
StandingName = Literal["active", "inactive", "disabled", "deleted", "removed", "overquota", "hold"]

_OWN_NAMES: dict[str, StandingName] = {name: name for name in get_args(StandingName)}


def _one_or_more(value: object) -> object:
    """One URI may be written without brackets."""
    return [value] if isinstance(value, str) else value


class StatusMap(Section):
    """
    One status attribute and what its values mean: our statuses (`active`, `hold`, …) by value, without case.

    Without `values`, the attribute's values are our own names. A value that is not listed is illegal: inactive.
    """

    attribute: str
    values: dict[str, StandingName] = Field(default_factory=dict)

    def meaning(self, value: str) -> StandingName | None:
        """What one value means; None for an illegal one."""
        folded = value.strip().lower()
        if not self.values:
            return _OWN_NAMES.get(folded)
        return next((name for text, name in self.values.items() if text.strip().lower() == folded), None)


class AttributeMap(Section):
    """
    What a site's own schema calls things. Filters are LDAP filters without an address in them (RFC 4515).

    `addresses` are compared without case; `address_prefix` is what stands before an address in `prefixed`
    (Active Directory: `smtp:`). `statuses` are looked at in their order, the first that is not active wins.
    """

    people: str = "(objectClass=inetOrgPerson)"
    groups: str = ""
    domains: str = ""
    canonical: str = "mail"
    """The mailbox's name. Has one value, unless it stands in `addresses` too: then the first in sorting order."""
    addresses: tuple[str, ...] = ("mail",)
    prefixed: str = ""
    """Attribute with prefixed addresses; the one whose prefix is in capitals is the canonical one."""
    address_prefix: str = "smtp:"
    catch_all: str = ""
    """Attribute whose value `@domain` takes every address of the domain that nobody else has."""
    home: str = ""
    home_also: tuple[str, ...] = ()
    """Read, in their order, where `home` has no value."""
    home_form: Literal["host", "transport", "server"] = "host"
    """`transport`: `lmtp:host:port`; `server`: a DN of Exchange, whose server is meant."""
    route: str = ""
    """Attribute with the recipient that the home is to see, or, without a home, a forward (`mailRoutingAddress`)."""
    route_beats_home: Flag = False
    """Sun: `route` is a forward although the entry has a home."""
    redirect: str = ""
    """Attribute with one address that gets everything instead (`targetAddress`), with or without the prefix."""
    statuses: tuple[StatusMap, ...] = ()
    group_statuses: tuple[StatusMap, ...] = ()
    domain_name: tuple[str, ...] = ()
    """The first with a value is the name, the rest are further names; `dc`: else, the leading dc parts of the DN."""
    domain_statuses: tuple[StatusMap, ...] = ()
    domain_home: str = ""
    domain_catch_all: str = ""
    """Attribute of a domain that says where its own system sends addresses nobody has; shown, not followed."""
    forward: tuple[str, ...] = ()
    """Attributes with addresses to forward to."""
    delivery: str = ""
    """Multi-valued attribute (`mailDeliveryOption`): `forward` in it switches `forward` on, others keep a copy."""
    no_copy: str = ""
    """Attribute that says TRUE when forwards leave no copy; where neither this nor `delivery` is named, one stays."""
    forwarding: Literal["relay", "home"] = "relay"
    """Who forwards for an entry with a home: this relay, or the home itself."""
    members: tuple[str, ...] = ()
    """Attributes of a group that are shown to operators."""
    show: tuple[str, ...] = ()
    """Further attributes that are only shown."""
    write_status: str = ""
    """Attribute that `hold` and `release` write; '' where the directory knows no hold."""
    write_hold: str = "hold"
    write_home: Flag = True


def _kind_of_schema(value: Any) -> str:
    return "<map>" if isinstance(value, dict | AttributeMap) else "<name>"


Schema = Annotated[
    Annotated[SchemaName, Tag("<name>")] | Annotated[AttributeMap, Tag("<map>")], Discriminator(_kind_of_schema)
]


class Ldap(Section):
    """One LDAP directory. Servers are tried in their order; changes are written to `write_uri`."""

    name: str = "ldap"
    uri: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
    write_uri: str = ""
    """The master, where `uri` are replicas; '' = the first of `uri`."""
    base: str
    domain_base: str = ""
    """Where domains are, if elsewhere."""
    bind_dn: str = ""
    password_file: Path | None = None
    external: Flag = False
    """SASL EXTERNAL: the TLS client certificate, or who we are on `ldapi://`."""
    plain_password: Flag = False
    """Allows the password over a connection that is neither TLS nor local."""
    starttls: Flag = False
    tls_verify: Flag = True
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    schema_: Schema = Field(default="sun", alias="schema")
    homes: dict[str, str] = Field(default_factory=dict)
    write_homes: dict[str, str] = Field(default_factory=dict)
    """By store, the value that is written for it; needed where `homes` has several for one store."""
    lists: str = ""
    """The store that takes mail for groups without a host of their own."""
    local_hosts: tuple[str, ...] = ()
    """`sendmail`: values of mailHost that mean this relay itself."""
    forwarding: Literal["schema", "relay", "home"] = "schema"
    """Who forwards for people with a home: as the schema says, this relay, or their home itself."""
    connections: Count = Field(default=4, ge=1, le=50)
    """Connections for lookups, per worker."""
    connect_timeout: Seconds = 3.0
    receive_timeout: Seconds = 5.0
    deadline: Seconds = 8.0
    """For one lookup in all, failover included."""
    page_size: Count = Field(default=500, ge=10, le=10_000)
    follow: Seconds = 2.0
    change_attribute: Literal["auto", "entryCSN", "uSNChanged", "modifyTimestamp"] = "auto"
    sweep: Seconds = 900.0
    stale: Seconds = 4 * 3600.0
    stale_delivery: Seconds = 120.0
    max_loss: Number = Field(default=0.1, gt=0, le=1)
    """Share of a domain's people whose disappearance at once is a fault of the directory and not the truth."""


class LdapSource(Section):
    """`- ldap: {…}` in `directory:`."""

    ldap: Ldap


def _known_source(value: object) -> object:
    if value == "ldap" or (isinstance(value, dict) and "ldap" in value and value["ldap"] is None):
        raise BadValue("says nothing of the directory", "write - ldap: {uri: …, base: …}")
    return value


def _kind_of_source(value: Any) -> str:
    return "<ldap>" if isinstance(value, dict | LdapSource) else "<database>"


Source = Annotated[
    Annotated[Literal["database"], Tag("<database>")] | Annotated[LdapSource, Tag("<ldap>")],
    Discriminator(_kind_of_source),
    BeforeValidator(_known_source),
]
"""An entry of `directory:`."""


def is_tag(part: object) -> bool:
    """Whether a part of pydantic's location names one side of a union here, and is no key of the file."""
    return isinstance(part, str) and part in {"<map>", "<name>", "<ldap>", "<database>"}
