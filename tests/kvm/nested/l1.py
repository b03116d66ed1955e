"""A bare guest hypervisor for tests: one program, on a hart that has H and as the guest of the hosted KVM.

The program starts in (v)HS-mode at L1_BASE and ends with `ecall`. It notes what it sees at s11, upwards. `handler` is
its own trap handler, `inner` that of its guest; both note their trap registers and go on behind the instruction, or
where s10 says after a fetch fault. With s9 the hypervisor's handler leaves its guest: it goes to s9 and clears it.
"""

from __future__ import annotations

from collections.abc import Iterable

from trapline.engine.api import open_engine
from trapline.isa.assemble import assemble_program
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.vm import Vm
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lang.control import EXIT_HOSTED_M, EXIT_LIMIT, EXIT_WFI
from trapline.lang.state import Hart
from trapline.privilege.isa_string import DEFAULT_ISA, configure
from trapline.privilege.reset import reset
from trapline.session.regions import Regions
from trapline.verify import spike

RAM, RAM_SIZE = 0x8000_0000, 0x80_0000
L1_BASE = RAM + 0x1000
NOTES = RAM + 0x10_0000
NOTES_SIZE = 0x4_0000
G_ROOT = RAM + 0x20_0000  # tables of the hypervisor's G-stage and of its guest's VS-stage, made by tests
VS_ROOT = RAM + 0x28_0000
FREE = RAM + 0x30_0000
HOLE = 0x4000_0000
TOHOST = RAM + 0xF_0000

TRAP_CSRS = ("scause", "sepc", "stval", "htval", "htinst", "hstatus", "sstatus")
INNER_CSRS = ("scause", "sepc", "stval", "sstatus")


def note(*csrs: str) -> str:
    """Assembly that notes CSRs."""
    return "".join(f"csrr t0, {name}\nsd t0, 0(s11)\naddi s11, s11, 8\n" for name in csrs)


def tag(number: int) -> str:
    """Assembly that notes a number."""
    return f"li t0, {number}\nsd t0, 0(s11)\naddi s11, s11, 8\n"


def _skip(name: str) -> str:
    return f"""
    csrr t0, scause
    bltz t0, {name}_back
    csrr t1, sepc
    addi t1, t1, 4
    beqz s10, {name}_set
    li t2, 2
    beq t0, t2, {name}_fetch
    li t2, 12
    beq t0, t2, {name}_fetch
    li t2, 1
    beq t0, t2, {name}_fetch
    li t2, 20
    bne t0, t2, {name}_set
{name}_fetch:
    mv t1, s10
    li s10, 0
{name}_set:
    csrw sepc, t1
{name}_back:
"""


HANDLERS = f"""
.align 2
handler:
{tag(0x1111)}{note(*TRAP_CSRS)}
    csrr t0, scause
    bgez t0, handler_sync
    csrw hvip, zero
    csrw stimecmp, s8
    csrci sip, 2
handler_sync:
    beqz s9, handler_stay
    mv t0, s9
    li s9, 0
    jr t0
handler_stay:
{_skip("handler")}
    sret
.align 2
inner:
{tag(0x2222)}{note(*INNER_CSRS)}
    csrr t0, scause
    bgez t0, inner_sync
    csrw stimecmp, s8
    csrci sip, 2
    csrw sie, zero
inner_sync:
{_skip("inner")}
    sret
"""
START = f"""
    li s11, {NOTES:#x}
    li s10, 0
    li s9, 0
    li s8, -1
    csrw stimecmp, s8
    csrw scounteren, zero
    la t0, handler
    csrw stvec, t0
    csrw vstimecmp, s8
    la t0, inner
    csrw vstvec, t0
"""


def enter(label: str, *, user: bool = False) -> str:
    """Assembly with which the hypervisor enters its guest at a label, in vVS or vVU."""
    change = "csrc" if user else "csrs"
    return f"""
    la t0, {label}
    csrw sepc, t0
    li t0, 0x180
    csrs hstatus, t0
    li t0, 0x100
    {change} sstatus, t0
    sret
"""


def leave(label: str) -> str:
    """Assembly with which the guest goes back to the hypervisor, at a label."""
    return f"la s9, {label}\necall\n"


def program(body: str) -> bytes:
    """The bytes of RAM from L1_BASE on for a program with this body."""
    return assemble_program(
        f"{START}\n{body}\nend:\nli a7, 0x53525354\nli a6, 0\nli a0, 0\nli a1, 0\necall\n{HANDLERS}", L1_BASE
    ).code


def supervised(hart: Hart, *, priv: int = 1) -> None:
    """Put a hart where firmware leaves it for a hypervisor."""
    hart.medeleg = hart.medeleg_mask & ~(1 << 9 | 1 << 11)
    hart.mideleg = hart.mideleg_mask | hart.mideleg_ones
    hart.mcounteren = hart.counteren_mask
    hart.hosted_m = 1
    hart.priv = priv


class NoEnd(AssertionError):
    """A program is not over at its limit of instructions; it has these notes so far."""

    def __init__(self, text: str, notes: bytes) -> None:
        super().__init__(text)
        self.notes = notes


class Outside(NoEnd):
    """A guest's program has come to where no memory is: KVM_EXIT_MMIO; where H is real that is an access fault."""


def on_hart(code: bytes, tables: Iterable[tuple[int, bytes]], menvcfg: int, isa: str, engine: str, limit: int) -> bytes:
    """Run the program where H is real: on a hart of trapline."""
    hart, regions = Hart(), Regions()
    configure(hart, isa)
    regions.ram("ram", RAM, RAM_SIZE)
    reset(hart, 0, L1_BASE)
    hart.time_ratio = 100
    regions.install(hart)
    runs = open_engine(engine)
    runs.attach(hart)
    regions.written = runs.code_written
    supervised(hart)
    hart.menvcfg = menvcfg & hart.menvcfg_mask
    regions.write(L1_BASE, code)
    for address, data in tables:
        regions.write(address, data)
    left = limit
    while left > 0:
        before = int(hart.instret)
        reason = runs.run(hart, left)
        left -= int(hart.instret) - before
        if reason == EXIT_HOSTED_M:
            break
        if reason in (EXIT_LIMIT, EXIT_WFI):
            raise NoEnd(f"no end: pc {int(hart.pc):#x}, reason {reason}", regions.read(NOTES, NOTES_SIZE))
    assert int(hart.mcause) == 9, f"cause {int(hart.mcause)} at {int(hart.mepc):#x}"
    return regions.read(NOTES, NOTES_SIZE)


def on_spike(code: bytes, tables: Iterable[tuple[int, bytes]], menvcfg: int, isa: str) -> bytes:
    """Run the program where H is real: on Spike, after firmware that leaves the hart as `supervised` does."""
    hart = Hart()
    configure(hart, isa)
    supervised(hart)
    registers = {
        "medeleg": hart.medeleg, "mideleg": hart.mideleg, "mcounteren": hart.mcounteren, "menvcfg": menvcfg,
        "mstatus": 1 << 11, "mepc": L1_BASE, "pmpaddr0": (1 << 54) - 1, "pmpcfg0": 0x1F,
    }  # fmt: skip
    writes = "".join(f"li t0, {int(value):#x}\ncsrw {name}, t0\n" for name, value in registers.items())
    firmware = assemble_program(
        f"la t0, done\ncsrw mtvec, t0\n{writes}li t0, 0\nmret\n.align 2\ndone:\nli t0, {TOHOST:#x}\nli t1, 1\n"
        "sd t1, 0(t0)\n1:\nj 1b\n",
        RAM,
    ).code
    parts = [Part(RAM, firmware), Part(L1_BASE, code), *(Part(at, data) for at, data in tables)]
    symbols = {"tohost": TOHOST, "fromhost": TOHOST + 64, "begin_signature": NOTES, "end_signature": NOTES + NOTES_SIZE}
    return spike.signature(write_elf(parts, symbols, RAM), isa)


def nested_vm(
    code: bytes, tables: Iterable[tuple[int, bytes]] = (), *, engine: str = "reference", **options: object
) -> Vm:
    """A VM with the program as its guest."""
    vm = Vm(engine=engine, nested=True, **options)  # type: ignore[arg-type]
    vm.add_memory(RAM, RAM_SIZE)
    vm.write_memory(L1_BASE, code)
    for address, data in tables:
        vm.write_memory(address, data)
    vm.vcpus[0].set_pc(L1_BASE)
    return vm


def as_guest(
    code: bytes,
    tables: Iterable[tuple[int, bytes]] = (),
    *,
    engine: str = "reference",
    limit: int = 200_000,
    **options: object,
) -> bytes:
    """Run the program as a guest of the hosted KVM."""
    vm = nested_vm(code, tables, engine=engine, **options)
    result = vm.run(None, max_instructions=limit)
    text = f"{result.reason} at {vm.vcpus[0].pc:#x} {result.death}"
    if result.reason == "limit":
        raise NoEnd(text, vm.read_memory(NOTES, NOTES_SIZE))
    assert result.reason == "exit", text
    if vm.vcpus[0].kvm_run.exit_reason is Exit.MMIO:
        raise Outside(text, vm.read_memory(NOTES, NOTES_SIZE))
    return vm.read_memory(NOTES, NOTES_SIZE)


def given_menvcfg(isa: str = DEFAULT_ISA) -> int:
    """What a guest of the default policy may switch on: the menvcfg of the hart that it sees."""
    vm = nested_vm(program(""), isa=isa)
    vm.vcpus[0].load()
    assert vm.vcpus[0].nested is not None
    return int(vm.vcpus[0].nested.hart.menvcfg)


def words(notes: bytes) -> list[int]:
    """The words that were noted, without the zeros behind them."""
    found = [int.from_bytes(notes[i : i + 8], "little") for i in range(0, len(notes), 8)]
    while found and found[-1] == 0:
        found.pop()
    return found


def difference(a: bytes, b: bytes) -> str:
    """Say where two notes part, "" if they do not."""
    for n, (x, y) in enumerate(zip(words(a), words(b), strict=False)):
        if x != y:
            before = " ".join(f"{w:#x}" for w in words(a)[max(0, n - 10) : n])
            return f"word {n}: {x:#x} and {y:#x}, after {before}"
    return "" if len(words(a)) == len(words(b)) else f"{len(words(a))} and {len(words(b))} words"
