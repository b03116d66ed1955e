"""SBI calls whose answers native code gives again (kvm.exits.kept_answers)."""

from __future__ import annotations

import pytest
from guest import BASE

from trapline.engine.api import Before
from trapline.isa.assemble import assemble
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.uapi.onereg import SBI_FWFT, SBI_STATE, reg_id, set_one_reg
from trapline.kvm.vcpu import Vcpu
from trapline.kvm.vm import Vm
from trapline.lang.control import EXIT_HOSTED_HS
from trapline.lang.values import MASK64
from trapline.sbi.numbers import Eid, Feature, Implementation, SbiError

ENGINES = ("native", "reference")
MISALIGNED = int(Feature.MISALIGNED_EXC_DELEG)
NOT_SUPPORTED = SbiError.NOT_SUPPORTED & MASK64
DOORBELL = 0x1000_0000  # no slot


def call(eid: int, fid: int, *arguments: int, save: str = "") -> str:
    """One call; error and value are stored at s11, which moves on."""
    loads = "\n".join(f" li a{n}, {value}" for n, value in enumerate(arguments))
    return f"{loads}\n li a7, {eid}\n li a6, {fid}\n ecall\n sd a0, 0(s11)\n sd a1, 8(s11)\n addi s11, s11, 16\n{save}"


def made(body: str, engine: str, policy: str = "linux-7.2", **options: object) -> Vm:
    """A VM whose guest runs the body with s11 where its answers go, then is over."""
    vm = Vm(policy, engine=engine, **options)
    vm.add_memory(BASE, 0x10000)
    vm.devices = ((DOORBELL, 8),)
    source = f" li s11, {BASE + 0x8000}\n{body}\n{call(Eid.SRST, 0, 0, 0)}"
    vm.write_memory(BASE, assemble(source, BASE))
    vm.vcpus[0].set_pc(BASE)
    return vm


def answers(vm: Vm, number: int) -> list[tuple[int, int]]:
    """The first answers that the guest stored."""
    data = vm.read_memory(BASE + 0x8000, 16 * number)
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    return list(zip(words[::2], words[1::2], strict=True))


class CountsLeaves(Before):
    """In front of an engine: how often a guest left it for what only Python does."""

    def __init__(self, vm: Vm) -> None:
        super().__init__(vm.engine)
        self.leaves = 0
        vm.engine = self  # type: ignore[assignment]

    def run(self, hart: object, limit: int) -> int:
        reason = self.engine.run(hart, limit)  # type: ignore[arg-type]
        self.leaves += reason == EXIT_HOSTED_HS
        return reason


@pytest.mark.parametrize(
    ("eid", "fid"), [(Eid.BASE, 0), (Eid.BASE, 1), (Eid.BASE, 2), (Eid.BASE, 3), (Eid.BASE, 4), (Eid.BASE, 5),
                     (Eid.BASE, 6), (Eid.BASE, 7), (Eid.TIME, 1), (Eid.HSM, 9), (Eid.FWFT, 1), (0x1234, 0)],
)  # fmt: skip
def test_a_guest_that_polls_reaches_python_once(eid: int, fid: int) -> None:
    """Of a call that is made again and again only the first ones leave native code, and all have the same answer."""
    leaves = []
    for times in (2, 20):
        vm = made(call(eid, fid, 0) * times, "native")
        counts = CountsLeaves(vm)
        vm.run()
        assert len(set(answers(vm, times))) == 1
        leaves.append(counts.leaves)
    assert leaves[0] == leaves[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_argument_that_counts_is_part_of_the_call(engine: str) -> None:
    """Answers to probe_extension are kept by what is asked for; what has no argument is not asked anew for another."""
    asked = [Eid.HSM, 0x1234, Eid.TIME, Eid.HSM, 0x1234, Eid.BASE]
    vm = made(
        "".join(call(Eid.BASE, 3, eid) for eid in asked) + "".join(call(Eid.BASE, 1, n) for n in range(8)), engine
    )
    vm.run()
    assert answers(vm, 6) == [(0, 1), (0, 0), (0, 1), (0, 1), (0, 0), (0, 1)]
    assert answers(vm, 14)[6:] == [(0, Implementation.KVM)] * 8


@pytest.mark.parametrize("engine", ENGINES)
def test_a_feature_that_is_set_reads_as_set(engine: str) -> None:
    """FWFT get tells what the last set has written, however often it was asked before."""
    get = call(Eid.FWFT, 1, MISALIGNED)
    vm = made((get * 3 + call(Eid.FWFT, 0, MISALIGNED, 1, 0) + get * 3) * 2, engine, host_fwft=True)
    vm.run()
    off, done, on = (0, 0), (0, 0), (0, 1)
    assert answers(vm, 14) == [off] * 3 + [done] + [on] * 3 + [on] * 3 + [done] + [on] * 3


@pytest.mark.parametrize("engine", ENGINES)
def test_what_user_space_changes_is_answered_anew(engine: str) -> None:
    """An extension that the VMM switches off, and a feature that it sets, change the answers that follow."""
    polls = call(Eid.BASE, 3, Eid.FWFT) + call(Eid.FWFT, 1, MISALIGNED)
    ring = f" li t0, {DOORBELL}\n sd zero, 0(t0)\n"
    vm = made((polls * 2 + ring) * 3, engine, host_fwft=True)
    rings: list[int] = []

    def vmm(vcpu: Vcpu) -> bool:
        rings.append(1)
        if len(rings) == 1:
            set_one_reg(vcpu, reg_id(SBI_STATE, 2, subtype=SBI_FWFT), 1)
        else:
            vcpu.sbi.enable("FWFT", False)
        return vcpu.kvm_run.exit_reason is Exit.MMIO

    vm.run(vmm)
    assert answers(vm, 12) == [(0, 1), (0, 0)] * 2 + [(0, 1), (0, 1)] * 2 + [(0, 0), (NOT_SUPPORTED, 0)] * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rewound_guest_is_answered_as_at_first(engine: str) -> None:
    """What was answered after a checkpoint does not outlive the way back."""
    polls = call(Eid.FWFT, 1, MISALIGNED) * 2
    vm = made(polls + call(Eid.FWFT, 0, MISALIGNED, 1, 0) + polls, engine, host_fwft=True)
    vm.checkpoint()
    found = []
    for _ in range(2):
        vm.run()
        found.append(answers(vm, 5))
        vm.rewind()
    assert found[0] == found[1] == [(0, 0), (0, 0), (0, 0), (0, 1), (0, 1)]


def test_who_watches_sees_each_call() -> None:
    """Every call is recorded, and looks the same whether its answer was kept or not."""
    found = []
    for engine in ENGINES:
        records: list[TrapRecord] = []
        vm = made(call(Eid.BASE, 0) * 4, engine)
        vm.on_trap = records.append
        vm.run()
        found.append([(r.path, r.how, r.end, r.hs_instructions, r.instret) for r in records if r.cause == 10][:4])
    assert found[0] == found[1]
    assert len({calls[:4] for calls in found[0]}) == 1
    assert [r[4] - found[0][0][4] for r in found[0]] == [0, 7, 13, 19]  # the first sd maps its page
