"""
The domains we answer for, and those that are another name of one of them.

Guarantees: a domain is ours only when it is listed; a sub-domain of ours is not. Names are compared in lower case and
as A-labels. The policy of an alias domain is that of the domain it stands for, unless it sets `unknown` itself.

On failure: `ValueError` at construction for a chain of alias domains that does not end at a real one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from router.model.address import parse_domain
from router.settings.schema import Domain


@dataclass(frozen=True, slots=True)
class DomainPolicy:
    """
    One domain of ours. `real` is the domain it stands for (its own name for a real one).

    `store` takes unknown addresses where `unknown` is 'store'; `probe` names the stores to ask where it is 'probe'.
    """

    name: str
    real: str
    unknown: str
    store: str = ""
    probe: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The domain itself, then the one it is an alias of: the order of precedence."""
        return (self.name,) if self.name == self.real else (self.name, self.real)


class DomainTable:
    """Lookup of a folded domain name."""

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        """Raises `ValueError` (also for a name that is no domain: `AddressSyntaxError`)."""
        folded = {parse_domain(name): domain for name, domain in domains.items()}
        self._policies = {name: _policy(name, folded) for name in folded}

    def get(self, domain: str) -> DomainPolicy | None:
        """The policy of a domain of ours, or None: foreign."""
        return self._policies.get(domain)

    def __contains__(self, domain: str) -> bool:
        return domain in self._policies

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def real(self) -> tuple[str, ...]:
        """The domains that are no aliases."""
        return tuple(name for name, policy in self._policies.items() if policy.real == name)


def _policy(name: str, domains: Mapping[str, Domain]) -> DomainPolicy:
    seen = [name]
    while domains[seen[-1]].alias_of:
        target = parse_domain(domains[seen[-1]].alias_of)
        if target not in domains or target in seen:
            raise ValueError(f"domain {name} is an alias of {target}, which does not lead to a domain of ours")
        seen.append(target)
    decides = domains[name] if "unknown" in domains[name].model_fields_set else domains[seen[-1]]
    return DomainPolicy(name, seen[-1], decides.unknown, decides.store, decides.probe)
