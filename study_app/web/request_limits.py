"""Limits per network address: new participants per hour and open pages; and a limit of open pages of the whole process."""

import ipaddress
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.types import Scope

from evalkit.errors import UserError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOUR = 3600.0
# Addresses remembered; the one that joined longest ago is forgotten first.
_MOST_ADDRESSES = 10_000
# A provider gives a customer this much of IPv6.
_IPV6_PREFIX = 64


@dataclass(frozen=True)
class Limits:
    """Limits of a served study; 0 means unlimited. Loopback and the networks in `unlimited` are never limited."""

    joins_per_hour: int = 60
    pages_per_address: int = 60
    # of the process, from the number of files it may open
    pages: int = 0
    unlimited: tuple[Network, ...] = ()


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks such as `192.0.2.0/24` or single addresses.

    Raises:
        UserError: a text is neither.
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise UserError(f"{text!r}: is not a network; give for example 192.0.2.0/24 or 2001:db8::/32") from None
    return tuple(networks)


@dataclass
class AddressCounts:
    """What each address did lately; kept in memory, per process."""

    limits: Limits = field(default_factory=Limits)
    _joins: "OrderedDict[str, deque[float]]" = field(default_factory=OrderedDict)
    _pages: Counter[str] = field(default_factory=Counter)

    @property
    def is_full(self) -> bool:
        """Return whether the process has as many open pages as it can serve."""
        return 0 < self.limits.pages <= self._pages.total()

    def join(self, scope: Scope) -> bool:
        """Count a new participant; return False if their address has too many in the last hour."""
        key = self._key(scope)
        if key is None or self.limits.joins_per_hour == 0:
            return True
        now, moments = time.monotonic(), self._joins.setdefault(key, deque())
        self._joins.move_to_end(key)
        while moments and moments[0] <= now - HOUR:
            moments.popleft()
        while len(self._joins) > _MOST_ADDRESSES:
            self._joins.popitem(last=False)
        if len(moments) >= self.limits.joins_per_hour:
            return False
        moments.append(now)
        return True

    def open_page(self, scope: Scope) -> str | None:
        """Count an open page and return the name to close it by; None if the address or the process has too many."""
        key = self._key(scope)
        if self.is_full:
            return None
        if key is not None and 0 < self.limits.pages_per_address <= self._pages[key]:
            return None
        self._pages[key or ""] += 1
        return key or ""

    def close_page(self, name: str) -> None:
        """Count an open page no more."""
        self._pages[name] -= 1
        if self._pages[name] <= 0:
            del self._pages[name]

    def _key(self, scope: Scope) -> str | None:
        """Return the address that a request is counted under, None for one without a limit."""
        address = client_address(scope)
        if address is None or address.is_loopback or any(address in network for network in self.limits.unlimited):
            return None
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        return str(address)


def client_address(scope: Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the client's address, None if unknown.

    The server replaces a trusted proxy's address by the one in its `X-Forwarded-For` header before this is called.
    """
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0]) if client else None
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
