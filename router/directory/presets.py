"""
The schemas that directories of mail systems have, as attribute maps; a site may write its own.

`sun`: Sun Messaging Server (schema 1 and 2). `zimbra`: the LDAP server of Zimbra. `activedirectory`: with Exchange.
`sendmail`: the attributes of FEATURE(ldap_routing). Sources and examples stand in docs/directory.md.

Guarantees: data only, and nothing in it that an attribute map of the configuration could not say.
"""

from collections.abc import Mapping

from router.settings.directory import AttributeMap, Ldap, StatusMap

SUN = AttributeMap(
    people="(objectClass=inetMailUser)",
    groups="(objectClass=inetMailGroup)",
    domains="(|(objectClass=mailDomain)(objectClass=inetDomain))",
    canonical="mail",
    addresses=("mailAlternateAddress", "mailEquivalentAddress"),
    catch_all="mailAlternateAddress",
    home="mailHost",
    route="mailRoutingAddress",
    route_beats_home=True,
    statuses=(StatusMap(attribute="inetUserStatus"), StatusMap(attribute="mailUserStatus")),
    group_statuses=(StatusMap(attribute="inetGroupStatus"), StatusMap(attribute="inetMailGroupStatus")),
    domain_name=("sunPreferredDomain", "associatedDomain", "dc"),
    domain_statuses=(StatusMap(attribute="inetDomainStatus"), StatusMap(attribute="mailDomainStatus")),
    domain_home="mailRoutingSmartHost",
    forward=("mailForwardingAddress",),
    delivery="mailDeliveryOption",
    members=("mgrpRFC822MailMember", "uniqueMember"),
    show=("preferredMailHost",),
    write_status="mailUserStatus",
)

ZIMBRA = AttributeMap(
    people="(objectClass=zimbraAccount)",
    groups="(|(objectClass=zimbraDistributionList)(objectClass=zimbraGroup))",
    domains="(objectClass=zimbraDomain)",
    canonical="zimbraMailDeliveryAddress",
    addresses=("zimbraMailAlias", "zimbraOldMailAddress"),
    catch_all="zimbraMailCatchAllAddress",
    home="zimbraMailTransport",
    home_also=("zimbraMailHost",),
    home_form="transport",
    statuses=(
        StatusMap(
            attribute="zimbraAccountStatus",
            values={
                "active": "active",
                "locked": "active",
                "lockout": "active",
                "maintenance": "hold",
                "closed": "disabled",
                "pending": "disabled",
            },
        ),
        StatusMap(attribute="zimbraMailStatus", values={"enabled": "active", "disabled": "disabled"}),
    ),
    group_statuses=(StatusMap(attribute="zimbraMailStatus", values={"enabled": "active", "disabled": "disabled"}),),
    domain_name=("zimbraDomainName",),
    domain_statuses=(
        StatusMap(
            attribute="zimbraDomainStatus",
            values={
                "active": "active",
                "locked": "active",
                "maintenance": "hold",
                "suspended": "hold",
                "shutdown": "hold",
                "closed": "disabled",
            },
        ),
        StatusMap(attribute="zimbraMailStatus", values={"enabled": "active", "disabled": "disabled"}),
    ),
    domain_home="zimbraMailTransport",
    domain_catch_all="zimbraMailCatchAllForwardingAddress",
    forward=("zimbraMailForwardingAddress", "zimbraPrefMailForwardingAddress"),
    no_copy="zimbraPrefMailLocalDeliveryDisabled",
    forwarding="home",
    members=("zimbraMailForwardingAddress",),
    show=("zimbraDomainType",),
    write_status="zimbraAccountStatus",
    write_hold="maintenance",
)

ACTIVE_DIRECTORY = AttributeMap(
    people="(&(|(objectClass=user)(objectClass=contact))(!(objectClass=computer)))",
    groups="(|(objectClass=group)(objectClass=publicFolder)(objectClass=msExchDynamicDistributionList))",
    canonical="mail",
    addresses=(),
    prefixed="proxyAddresses",
    home="msExchHomeServerName",
    home_also=("homeMDB",),
    home_form="server",
    redirect="targetAddress",
    show=("mailNickname", "altRecipient", "deliverAndRedirect", "userAccountControl"),
    write_home=False,
)

SENDMAIL = AttributeMap(
    people="(objectClass=inetLocalMailRecipient)",
    canonical="mailLocalAddress",
    addresses=("mailLocalAddress",),
    catch_all="mailLocalAddress",
    home="mailHost",
    route="mailRoutingAddress",
)

PRESETS: Mapping[str, AttributeMap] = {
    "sun": SUN,
    "zimbra": ZIMBRA,
    "activedirectory": ACTIVE_DIRECTORY,
    "sendmail": SENDMAIL,
}


def map_of(source: Ldap) -> AttributeMap:
    """The attribute map of a directory: its own, or the preset it names."""
    return source.schema_ if isinstance(source.schema_, AttributeMap) else PRESETS[source.schema_]
