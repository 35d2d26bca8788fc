"""
The `ldap:` source of `directory:`: where the servers are, how to log in, what the attributes mean.

Guarantees: an instance is complete. TLS certificates are verified unless that is switched off by name. Times are
seconds. What the presets mean stands in `router.directory.presets`; `homes` maps values of the home attribute to
stores, and host names of stores need no entry there.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from router.settings.base import Count, Flag, Number, Seconds, Section

SchemaName = Literal["sun", "zimbra", "activedirectory", "sendmail"]


def _one_or_more(value: object) -> object:
    """One URI may be written without brackets."""
    return [value] if isinstance(value, str) else value


class StatusMap(Section):
    """
    One status attribute and what its values mean: our statuses (`active`, `hold`, …) by value, both folded.

    Without `values`, the attribute's values are our own names. A value that is not listed is illegal: inactive.
    """

    attribute: str = Field(min_length=1)
    values: dict[str, Literal["active", "inactive", "disabled", "deleted", "removed", "overquota", "hold"]] = Field(
        default_factory=dict
    )


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
    addresses: tuple[str, ...] = ("mail",)
    prefixed: str = ""
    catch_all: str = ""
    """Attribute whose value `@domain` takes every address of the domain that nobody else has."""
    home: str = ""
    route: str = ""
    """Attribute with the recipient that the home is to see, or, without a home, a forward (`mailRoutingAddress`)."""
    statuses: tuple[StatusMap, ...] = ()
    group_statuses: tuple[StatusMap, ...] = ()
    domain_name: tuple[str, ...] = ()
    domain_statuses: tuple[StatusMap, ...] = ()
    domain_home: str = ""
    forward: tuple[str, ...] = ()
    """Attributes with addresses to forward to."""
    delivery: str = ""
    """Multi-valued attribute (`mailDeliveryOption`): `forward` in it switches `forward` on, `mailbox` keeps a copy."""
    members: tuple[str, ...] = ()
    """Attributes of a group that are shown to operators."""
    write_status: str = ""
    """Attribute that `hold` and `release` write; '' where the directory knows no hold."""
    write_hold: str = "hold"
    write_home: Flag = True


class Ldap(Section):
    """One LDAP directory. Servers are tried in their order; changes are written to `write_uri`."""

    name: str = Field(default="ldap", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    uri: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = Field(min_length=1)
    write_uri: str = ""
    """The master, where `uri` are replicas; '' = the first of `uri`."""
    base: str
    domain_base: str = ""
    """Where domains are, if elsewhere."""
    bind_dn: str = ""
    password_file: Path | None = None
    external: Flag = False
    """SASL EXTERNAL: the TLS client certificate, or who we are on `ldapi://`."""
    starttls: Flag = False
    tls_verify: Flag = True
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    schema_: SchemaName | AttributeMap = Field(default="sun", alias="schema")
    homes: dict[str, str] = Field(default_factory=dict)
    lists: str = ""
    """The store that takes mail for groups without a host of their own."""
    local_hosts: tuple[str, ...] = ()
    """`sendmail`: values of mailHost that mean this relay itself."""
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
