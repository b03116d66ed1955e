"""A RISC-V KVM in Python: unmodified guests, and the route, count and cost of every trap.

The public names are imported when they are first used, so that `import trapline` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu
    from trapline.kvm.vm import Vm
    from trapline.lab.audit.audit import Audit, audit
    from trapline.lab.compare import Comparison, compare
    from trapline.lab.route import RouteTable, route
    from trapline.lab.routes import Route
    from trapline.machine.machine import Machine
    from trapline.policies import Policy, load_policy, policy_names
    from trapline.scale.sweep import Swept, sweep
    from trapline.session.observe.observer import Observer
    from trapline.vmm.guest import Guest

__all__ = [
    "Audit",
    "Comparison",
    "Guest",
    "Machine",
    "Observer",
    "Policy",
    "Route",
    "RouteTable",
    "Swept",
    "Vcpu",
    "Vm",
    "audit",
    "compare",
    "load_policy",
    "policy_names",
    "route",
    "sweep",
]

_HOMES = {
    "Audit": "trapline.lab.audit.audit",
    "Comparison": "trapline.lab.compare",
    "Guest": "trapline.vmm.guest",
    "Machine": "trapline.machine.machine",
    "Observer": "trapline.session.observe.observer",
    "Policy": "trapline.policies",
    "Route": "trapline.lab.routes",
    "RouteTable": "trapline.lab.route",
    "Swept": "trapline.scale.sweep",
    "Vcpu": "trapline.kvm.vcpu",
    "Vm": "trapline.kvm.vm",
    "audit": "trapline.lab.audit.audit",
    "compare": "trapline.lab.compare",
    "load_policy": "trapline.policies",
    "policy_names": "trapline.policies",
    "route": "trapline.lab.route",
    "sweep": "trapline.scale.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from trapline.lang.given import near

        raise AttributeError(f"module 'trapline' has no attribute {name!r}{near(name, __all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
