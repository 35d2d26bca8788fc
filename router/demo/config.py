"""
A configuration for a relay on loopback, written as the YAML file that `sluice --config` reads.

Guarantees: nothing in it leads off this machine: stores and smarthost are on 127.0.0.1, and the listener is too. The
port is reserved until `Port.release`, so that a relay which is killed and started again finds it free.

On failure: `OSError` when no port or file is to be had.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
DOMAIN = "example.edu"


class Port:
    """A free TCP port on loopback, kept for processes of ours that listen with SO_REUSEPORT, as the relay does."""

    def __init__(self) -> None:
        # Bound, never listening: connections go to those who listen, and nobody else is given the port.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number = int(self._socket.getsockname()[1])

    def release(self) -> None:
        """Give it up; idempotent."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class StoreAt:
    """One store of the configuration, on loopback. `keys` are further keys of its entry, such as `settle`."""

    name: str
    port: int
    role: str = "old"
    protocol: str = "smtp"
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the relay is to be. `keys` are laid over the rest, section by section, as YAML values."""

    state_dir: Path
    port: int
    stores: Sequence[StoreAt]
    smarthost: int
    """Port on loopback that notices go to."""
    workers: int = 1
    domains: Mapping[str, Any] = field(default_factory=lambda: {DOMAIN: {"unknown": "reject"}})
    keys: Mapping[str, Any] = field(default_factory=dict)


def write_config(layout: Layout, path: Path) -> None:
    """Write the file. JSON is YAML, and reads the same to the loader and to a person."""
    path.write_text(json.dumps(_merged(_tree(layout), layout.keys), indent=2, default=str) + "\n", encoding="utf-8")


def _tree(layout: Layout) -> dict[str, Any]:
    return {
        "hostname": "mx.example.edu",
        "state_dir": str(layout.state_dir),
        "workers": layout.workers,
        "listen": [{"address": LOOPBACK, "port": layout.port}],
        "postmaster": f"postmaster@{next(iter(layout.domains))}",
        "message_size_limit": "20 MiB",
        "stores": {store.name: _store(store) for store in layout.stores},
        "domains": dict(layout.domains),
        "outbound": {"smarthost": f"{LOOPBACK}:{layout.smarthost}", "tls": "off"},
        "limits": {"connections_per_client": 1000, "minimum_free": "1 MiB", "minimum_free_inodes": 100},
        "log": {"level": "warning"},
    }


def _store(store: StoreAt) -> dict[str, Any]:
    fixed = {"role": store.role, "hosts": [f"{LOOPBACK}:{store.port}"], "protocol": store.protocol, "tls": "off"}
    return fixed | dict(store.keys)


def _merged(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(tree)
    for key, value in over.items():
        mine = both.get(key)
        both[key] = _merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both
