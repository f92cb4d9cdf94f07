"""`[api] hooks` and `[api] hook_networks`: to where changes may be sent."""

from __future__ import annotations

from ipaddress import ip_network

from interface.config.table import Table
from interface.domain.hooks import never, read_endpoint


def read_hooks(table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where EMRs may have themselves told of changes, and the networks in which that may be."""
    for index, text in enumerate(endpoints := table.texts("hooks")):
        try:
            read_endpoint(text)
        except ValueError as error:
            table.problem(f"hooks[{index}]", str(error))
    for index, text in enumerate(networks := table.texts("hook_networks")):
        try:
            network = ip_network(text)
        except ValueError as error:
            table.problem(f"hook_networks[{index}]", f"is not a network: {error}")
            continue
        if never(network.network_address) or never(network.broadcast_address) or network.prefixlen == 0:
            table.problem(f"hook_networks[{index}]", "holds addresses that nothing may be sent to")
    return endpoints, networks
