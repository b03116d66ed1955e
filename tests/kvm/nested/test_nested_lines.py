"""What reaches a guest hypervisor while its guest runs: the VMM's line, another vCPU's IPI; and what stays with it."""

from __future__ import annotations

from itertools import combinations

import pytest
from l1 import FREE, G_ROOT, NOTES, NOTES_SIZE, RAM, as_guest, enter, nested_vm, program, tag, words
from programs import ALL, MEGA, g_stage, pte
from test_nested_nacl import ALL as FEATURES
from test_nested_nacl import NOT_SUPPORTED, SHMEM, call
from test_nested_rfence import HSM, PAGE, READY, look, store, wait

from trapline.kvm.uapi.numbers import KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET
from trapline.kvm.uapi.slots import SlotKind
from trapline.privilege.pte import PTE_U

ENGINES = ["native", "reference"]
INTERRUPT, IPI = 1 << 63, 0x735049
LEAF = ALL | PTE_U
SPIN = "1:\nj 1b\n"
WAITS = {"spins": SPIN, "waits": "1:\nwfi\nj 1b\n"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("waits", WAITS)
@pytest.mark.parametrize("delegated", [False, True])
def test_line_of_the_vmm(delegated: bool, waits: str, engine: str) -> None:
    """An external interrupt of the VMM's ends the run of L2, whatever hideleg says: the line is L1's."""
    hideleg = 0x444 if delegated else 0
    body = f"li t0, {hideleg}\ncsrw hideleg, t0\nli t0, 0x222\ncsrw vsie, t0\ncsrw sie, t0\n"
    body += f"la s9, out\n{enter('inside')}inside:\n{WAITS[waits]}out:\ncsrw sie, zero\n"
    vm = nested_vm(program(body), engine=engine)
    assert vm.run(None, max_instructions=1_000).reason == ("limit" if waits == "spins" else "halted")
    assert not any(vm.read_memory(NOTES, 8))
    vm.vcpus[0].interrupt(KVM_INTERRUPT_SET)
    assert vm.run(None, max_instructions=1_000).reason == "exit"
    assert words(vm.read_memory(NOTES, 16)) == [0x1111, INTERRUPT | 9]
    vm.vcpus[0].interrupt(KVM_INTERRUPT_UNSET)


@pytest.mark.parametrize("waits", WAITS)
def test_ipi_of_another_vcpu(waits: str) -> None:
    """An IPI of one vCPU's ends the run of L2 on another, where L1 gets its software interrupt."""
    first = f"li a0, 1\nla a1, second\nli a2, 0\nli a6, 0\nli a7, {HSM}\necall\n{wait(READY, 1, 'ready')}"
    first += f"li a0, 2\nli a1, 0\nli a6, 0\nli a7, {IPI}\necall\n{wait(READY, 2, 'over')}j end\n"
    second = (
        f"second:\nli s11, {NOTES + 0x1000:#x}\nli s8, -1\nla t0, handler\ncsrw stvec, t0\nli t0, 2\ncsrw sie, t0\n"
    )
    second += f"la s9, out\n{enter('inside')}inside:\n{store(READY, 1)}{WAITS[waits]}out:\n{store(READY, 2)}{SPIN}"
    vm = nested_vm(program(first + second), engine="native", vcpus=2)
    assert vm.run(None, max_instructions=150_000).reason == "exit"
    assert words(vm.read_memory(NOTES + 0x1000, 16)) == [0x1111, INTERRUPT | 1]


@pytest.mark.parametrize("engine", ENGINES)
def test_guests_keep_their_shadows(engine: str) -> None:
    """L1 that changes between guests of several VMIDs finds each one's pages mapped: they fault once."""
    body = ""
    for turn in range(3):
        for vmid in range(1, 5):
            name = f"v{vmid}_{turn}"
            body += f"li t0, {8 << 60 | vmid << 44 | G_ROOT >> 12:#x}\ncsrw hgatp, t0\n"
            body += f"la s9, {name}_out\n{enter(name)}{name}:\n{look(PAGE)}ecall\n{name}_out:\n"
        body += tag(0x77)
    vm = nested_vm(program(body), g_stage(), engine=engine)
    faults: list[int] = []
    while vm.run(None, max_instructions=10).reason == "limit":
        done = words(vm.read_memory(NOTES, NOTES_SIZE)).count(0x77)
        if done > len(faults):
            faults.append(sum(n for name, n in vm.stats().items() if "/nested-map/" in name))
    assert faults[0] >= 8
    assert set(faults) == {faults[0]}


@pytest.mark.parametrize("engine", ENGINES)
def test_large_leaf_over_small_memory(engine: str) -> None:
    """Of L1's leaf of 1 GiB over RAM, ROM and nothing L2 gets what is there: a store into ROM is refused, too."""
    rom, nothing = RAM + 0x100_0000, RAM + 0x200_0000
    body = f"li t0, {8 << 60 | G_ROOT >> 12:#x}\ncsrw hgatp, t0\n"
    for n, access in enumerate(("ld t3, 0(s7)", "sd t3, 8(s7)")):
        for m, place in enumerate((FREE, rom, rom + MEGA, nothing)):
            body += f"li t3, {0x88 + n}\nli s7, {place:#x}\nla s9, out{n}_{m}\n{enter(f'in{n}_{m}')}in{n}_{m}:\n"
            body += f"{access}\nla s9, out{n}_{m}\necall\nout{n}_{m}:\n"
    vm = nested_vm(program(body), [(G_ROOT + 8 * 2, pte(RAM, LEAF))], engine=engine)
    vm.add_memory(rom, 0x1000, SlotKind.READ_ONLY)
    assert vm.run(None, max_instructions=2_000).reason == "exit"
    noted = words(vm.read_memory(NOTES, NOTES_SIZE))
    causes = [noted[n + 1] for n, word in enumerate(noted) if word == 0x1111]
    assert causes == [10, 10, 5, 5, 10, 7, 7, 7]
    assert vm.read_memory(FREE + 8, 1) == b"\x89"
    assert vm.read_memory(rom, 16) == bytes(16)


SUBSETS = [subset for n in range(5) for subset in combinations(FEATURES, n)]


@pytest.mark.parametrize("subset", SUBSETS, ids=lambda s: "+".join(s) or "none")
def test_each_set_of_features(subset: tuple[str, ...]) -> None:
    """Each set of NACL's features serves the calls and the exchange of what is in it, and nothing else."""
    probes = "".join(call(0, n) for n in range(5)) + call(1, SHMEM, 0, 0) + call(2, -1) + call(3, -1)
    code = program(f"{probes}{tag(1)}")
    noted = words(as_guest(code, engine="native", nacl=subset))[:-1]
    noted += [0] * (16 - len(noted))
    there = [int(name in subset) for name in FEATURES] + [0]
    if subset:
        assert noted[:10] == [word for one in there for word in (0, one)]
        assert noted[10] == 0
    else:
        assert noted[:10:2] == [NOT_SUPPORTED] * 5
        assert noted[10] == NOT_SUPPORTED
    assert noted[12:16:2] == [0 if name in subset else NOT_SUPPORTED for name in ("csr", "hfence")]
