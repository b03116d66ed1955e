"""`trapline conform --nested`: every event in a guest of a real kernel's KVM, that is L1, and in one flat on the board.

Both kernels have the same hart: on the board it is the one that L0 lets L1 see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from trapline.conform.board import Host, Run, Session, quietest, run_events
from trapline.conform.compare import compare, load_accepted, load_nested
from trapline.conform.conform import Comparison, Conformance, Progress
from trapline.conform.nested import OF_L1, NestedSession
from trapline.conform.payload import Payload, payload
from trapline.conform.seen import Seen
from trapline.kvm.vm import Vm
from trapline.lab.errors import UsageError
from trapline.lab.probe import image
from trapline.lab.probe.events import EVENTS
from trapline.lab.route import event_names
from trapline.lab.settings import Settings, policy_of
from trapline.policies import Policy
from trapline.privilege.isa_string import extensions
from trapline.vmm.arguments import parse_nacl
from trapline.vmm.guest_tree import guest_isa

_Turns = dict[tuple[str, str], list[Seen]]


def conform_nested(
    hosts: Sequence[Host],
    policies: Sequence[str | Path | Policy] = ("linux-7.2",),
    *,
    nacl: str = "",
    host_fwft: bool = False,
    event: str | None = None,
    repeat: int = 2,
    accepted: str | Path | None = None,
    progress: Progress | None = None,
) -> Conformance:
    """Raise events flat and as L2, under each host's kernel as L1 and each policy as L0, and compare."""
    chosen, only, result = [policy_of(p) for p in policies], event_names(event), Conformance()
    known = load_accepted(accepted)
    total = len(hosts) * len(chosen)
    for number, (host, policy) in enumerate((h, p) for h in hosts for p in chosen):

        def step(done: int, all_of_it: int, what: str, number: int = number) -> None:
            if progress is not None:
                progress(number * all_of_it + done, total * all_of_it, what)

        one = _Pair(host, policy, nacl, only, step)
        run, flat = one.flat(repeat)
        settings = Settings(policy, run.firmware, host_fwft, host.misaligned)
        nested_run, nested = one.nested(settings, repeat)
        allowed = (*load_nested({b.name for b in policy.bugs}, accepted), *known)
        rows = [compare(_of_l1(flat[key]), _of_l1(turns), allowed) for key, turns in nested.items()]
        here = {name for name, _ in nested}
        missing = tuple(e.id for e in EVENTS if e.id not in here and (only is None or e.id in only))
        result.comparisons.append(Comparison(settings, nested_run.release, rows, missing, nacl=one.given))
        result.consoles += [run.console, nested_run.console]
    return result


class _Pair:
    """One kernel flat and as L1."""

    def __init__(
        self,
        host: Host,
        policy: Policy,
        nacl: str,
        only: frozenset[str] | None,
        step: Callable[[int, int, str], None],
    ) -> None:
        self._host, self._nacl, self._step = host, nacl, step
        try:
            features = parse_nacl(nacl)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.given: tuple[str, ...] = policy.nacl if features is None else features
        self._isa = guest_isa(Vm(policy, isa=host.isa, engine=host.engine, nested=True).vcpus[0])
        probes = image.build(frozenset(extensions(self._isa)), only)
        if not probes.entries:
            raise UsageError("no event that was asked for can be raised on this hart under a kernel")
        self._load: Payload = payload(probes)

    def flat(self, repeat: int) -> tuple[Run, _Turns]:
        """Raise the events in a guest of the board."""
        host = replace(self._host, isa=self._isa)
        return self._run(host, repeat, "flat", 0, Session)

    def nested(self, settings: Settings, repeat: int) -> tuple[Run, _Turns]:
        """Raise them in a guest of a guest."""
        made = partial(NestedSession, settings=settings, nacl=self._nacl)
        return self._run(self._host, repeat, "nested", 1, made)

    def _run(self, host: Host, repeat: int, name: str, half: int, made: Callable[..., Session]) -> tuple[Run, _Turns]:
        def step(done: int, total: int) -> None:
            self._step(half * total + done, 2 * total, f"{name} events")

        self._step(half, 2, f"{host.kernel.parent.name} boots, {name}")
        return run_events(host, self._load, repeat, step, made)


def _of_l1(turns: list[Seen]) -> Seen:
    """What L1 has done and seen: the board's and L0's own traps are no matter of it."""
    one = quietest(turns)
    return replace(one, traps=None, levels={name: one.levels[name] for name in OF_L1 if name in one.levels})
