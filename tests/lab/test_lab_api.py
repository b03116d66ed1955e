"""The Python API: hooks, ends of runs, names of registers, memory, results in a notebook, calls as people make them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.machine.machine_fakes import make_elf

import trapline
from trapline.isa.assemble import assemble, assemble_program
from trapline.machine.machine import Machine
from trapline.machine.memory_map import RAM_BASE
from trapline.session.hooks import Hit, TakenTrap
from trapline.vmm.guest import Guest

ENGINES = pytest.mark.parametrize("engine", ["native", "reference"])
PROGRAM = assemble_program(
    """
start: la t0, handler
    csrw mtvec, t0
    li s1, 0x10000000
    li s2, 0x80001000
    li s0, 0
loop: addi s0, s0, 1
    addi t1, s0, 96
    sb t1, 0(s1)
    sd s0, 0(s2)
    ecall
    csrr t3, 0x5ff
    li t2, 10
    bne s0, t2, loop
    li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
1:  j 1b
.align 2
handler: csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    mret
""",
    RAM_BASE,
)
AT = PROGRAM.symbols


def board(engine: str = "native", **options: Any) -> Machine:
    """A board with the program and its symbols."""
    machine = Machine(engine=engine, memory=1 << 20, **options)
    machine.load_elf(make_elf(PROGRAM.code, symbols=dict(AT), memory_size=0x1000), htif=False)
    return machine


@ENGINES
def test_hooks_count_and_tell(engine: str) -> None:
    """Code, accesses, traps and text are counted natively without a function, and told to one."""
    with board(engine) as machine:
        told: list[Any] = []
        entries = machine.on_code("handler")
        loop = machine.on_code(AT["loop"], told.append)
        stores = machine.on_access(0x8000_1000, told.append)
        illegal = machine.on_trap(told.append, causes=["inst-illegal"], origins=["M"])
        every = machine.on_trap()
        text = machine.on_console("bcd", told.append)
        assert machine.run().reason == "exit"
        assert [h.count for h in (entries, loop, stores, illegal, every, text)] == [20, 10, 10, 10, 20, 1]
    trap = next(event for event in told if isinstance(event, TakenTrap))
    assert (trap.name, trap.origin, trap.destination, trap.epc) == ("inst-illegal", "M", "M", AT["loop"] + 20)
    store = next(event for event in told if type(event) is Hit and event.address == 0x8000_1000)
    assert (store.pc, store.number) == (AT["loop"] + 12, 0)
    assert repr(entries) == "<Hook on code, 20 times>"


@ENGINES
def test_a_run_ends_where_it_is_to(engine: str) -> None:
    """`until` is a symbol, an address, a text or a question about traps; afterwards nothing is left of it."""
    machine = board(engine)
    assert (machine.run(until="loop").reason, int(machine.harts[0].pc)) == ("stop", AT["loop"])
    assert machine.run(until=AT["handler"], limit=1).reason == "limit"
    assert machine.run(until=b"c").reason == "stop"
    assert machine.harts[0].x.s0 == 3
    assert machine.run(until=lambda trap: trap.cause == 2).reason == "stop"
    assert (machine.harts[0].csr.mcause, machine.harts[0].x.s0) == (2, 3)
    assert len(machine.stops) == 0
    assert machine.run().reason == "exit"


@ENGINES
def test_what_a_hook_raises_reaches_the_caller(engine: str) -> None:
    """An exception of a function ends the run and is the caller's; the machine can go on."""
    machine = board(engine)

    def fail(hit: object) -> None:
        raise KeyError("mine")

    for ask in (
        lambda: machine.on_code("loop", fail),
        lambda: machine.on_trap(fail),
        lambda: machine.on_console("b", fail),
    ):
        with ask(), pytest.raises(KeyError, match="mine"):
            machine.run()
    assert machine.run().reason == "exit"


@ENGINES
def test_guests_have_hooks(engine: str) -> None:
    """A guest's code, hardware traps to the hosted hypervisor and console, on the guest and on its VM."""
    guest_at = 0x8020_0000
    program = assemble_program(
        "start: li s0, 3\nloop: li t0, 0x10000000\nli t1, 'x'\nsb t1, 0(t0)\naddi s0, s0, -1\nbnez s0, loop\n"
        "li a7, 0x53525354\nli a6, 0\nli a0, 0\nli a1, 0\necall",
        guest_at,
    )
    with Guest(engine=engine, memory=16 << 20) as guest:
        guest.load_bytes(make_elf(program.code, symbols=dict(program.symbols), address=guest_at))
        loops, faults, records, text = guest.on_code("loop"), [], [], guest.on_console("xx")
        guest.vm.on_trap(faults.append, causes=["store-guest-page-fault"], destinations=["HS"])
        guest.vm.on_trap = records.append
        assert guest.run(until="loop").reason == "stop"
        assert guest.run().reason == "exit"
        assert (loops.count, text.count) == (3, 1)
        assert {(f.origin, f.destination) for f in faults} == {("VS", "HS")}
        assert sum(r.cause == 23 for r in records) == len(faults)
        assert guest.mem.word(guest_at, 2) == int.from_bytes(program.code[:2], "little")


def test_registers_have_names() -> None:
    """x, f and CSRs by name, written within their range and with their effects; what is not there is said."""
    hart = board(isa="rv64gc").harts[0]
    hart.x.sp = 5
    hart.x.zero = 7
    hart.f.fa0 = 1 << 63
    hart.csr.mstatus = 0x88
    assert (hart.x[2], hart.x.zero, hart.f[10], hart.csr.mie, hart.csr["mscratch"]) == (5, 0, 1 << 63, 0, 0)
    assert hart.csr.mstatus & 0x88 == 0x88
    assert "sp=0x5" in repr(hart.x)
    for value in (-1, 1 << 64, True, "x"):
        with pytest.raises(ValueError, match=r"a register holds 0 to 2\*\*64 - 1"):
            hart.x.sp = value
    with pytest.raises(AttributeError, match="no register is called 'spp'"):
        _ = hart.x.spp
    with pytest.raises(AttributeError, match=r"no CSR is called 'mstatuss' \(did you mean mstatus"):
        _ = hart.csr.mstatuss
    with pytest.raises(AttributeError, match="this hart has no vsstatus"):
        _ = hart.csr.vsstatus
    with pytest.raises(ValueError, match="mhartid is read-only"):
        hart.csr.mhartid = 1


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_registers_have_numbers(engine: str) -> None:
    """x0 to x31, pc, priv and virt: another number is an IndexError, a value that they do not hold a ValueError."""
    hart = board(engine=engine).harts[0]
    hart.x[31] = 5
    assert (hart.x[31], len(hart.x)) == (5, 32)
    for number in (32, -1, 1 << 70):
        with pytest.raises(IndexError, match="registers are x0 to x31"):
            _ = hart.x[number]
        with pytest.raises(IndexError, match="registers are x0 to x31"):
            hart.x[number] = 1
    with pytest.raises(TypeError, match=r"a register's number is 0 to 31"):
        _ = hart.x["sp"]  # type: ignore[index]
    with pytest.raises(IndexError, match="index 32 outside"):
        _ = hart.f[32]
    for value in (-1, 1 << 64, "start", 1.5):
        with pytest.raises(ValueError, match=r"pc = .*: a register holds 0 to 2\*\*64 - 1"):
            hart.pc = value  # type: ignore[assignment]
    for name, value in (("priv", 4), ("virt", 2)):
        with pytest.raises(ValueError, match=f"{name} = {value}: it holds 0 to"):
            setattr(hart, name, value)


def test_memory_is_a_sequence() -> None:
    """Bytes, ranges and words by physical address; a write is seen by code that was decoded."""
    machine = board()
    machine.mem[0x8000_2000:0x8000_2004] = b"\x01\x02\x03\x04"
    machine.mem[0x8000_2001] = 0xFF
    assert (machine.mem[0x8000_2000:0x8000_2004], machine.mem[0x8000_2003]) == (b"\x01\xff\x03\x04", 4)
    machine.mem.put_word(0x8000_2008, 1 << 63)
    assert (machine.mem.word(0x8000_2008), machine.mem.word(0x8000_2000, 2)) == (1 << 63, 0xFF01)
    for wrong in (lambda: machine.mem[0:8], lambda: machine.mem[8:], lambda: machine.mem.put_word(0x8000_2000, 256, 1)):
        with pytest.raises(ValueError, match=r"no memory at 0x0|both given|does not fit"):
            wrong()


def test_csrs_and_causes_go_by_name() -> None:
    """A hook and a stop on writes of a CSR take its name, those on traps the cause's; the write is yet to come."""
    code = "li t0, 1; 1: csrw mscratch, t0; addi t0, t0, 1; csrr t1, mscratch; ebreak"
    machine = trapline.Machine(memory=1 << 20)
    machine.regions.write(0x8000_0000, assemble(code, 0x8000_0000))
    seen: list[int] = []
    hook = machine.on_csr("mscratch", lambda hit: seen.append(int(hit.hart.csr.mscratch)))
    physical = machine.on_access(0x8000_0000, size=64, read=True, physical=True)
    machine.stops.catch_trap("breakpoint")
    machine.harts[0].pc = 0x8000_0000
    machine.run(limit=100)
    assert machine.stopped_by is not None and machine.stopped_by.stop.kind == "trap"
    assert (seen, hook.count, physical.count) == ([0], 1, 0)
    assert machine.stops.catch_csr("satp").address == machine.stops.catch_csr(0x180).address
    with pytest.raises(ValueError, match=r"no CSR is called 'vsstat'.* \(did you mean vsstatus"):
        machine.on_csr("vsstat")


def test_what_is_not_there_is_said() -> None:
    """Symbols and causes that do not exist are named, with those that are like them."""
    machine = board()
    with pytest.raises(ValueError, match=r"no symbol is called 'handlr' \(did you mean handler"):
        machine.on_code("handlr")
    with pytest.raises(ValueError, match=r"no cause is called 'illegal-inst'"):
        machine.on_trap(causes=["illegal-inst"])
    with pytest.raises(ValueError, match="an empty text"):
        machine.on_console("")


def test_results_show_themselves(tmp_path: Path) -> None:
    """Results are tables of HTML in a notebook, and machines say what they are."""
    machine = board()
    assert repr(machine).startswith("<Machine rv64") and repr(machine).endswith("1 hart, 1 MiB, native engine>")
    assert re.search("<td[^>]*>reason</td><td[^>]*>exit</td>", machine.run()._repr_html_())
    table = trapline.route("linux-6.12", event="fetch-hole")
    assert "VS &gt; M &gt; HS &gt; VMM" in table._repr_html_()
    program = tmp_path / "guest.bin"
    program.write_bytes(assemble_program("li a7, 8\necall\n", 0x8020_0000).code)
    both = trapline.compare("linux-7.1", "linux-7.2", guest=program, memory="16M", max_instructions=1000)
    assert both.names == ("linux-7.1", "linux-7.2")
    assert ">linux-7.2</th>" in both._repr_html_()
    assert trapline.compare(program, ["linux-7.1"], memory="16M", max_instructions=10).names == ("linux-7.1",)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: trapline.compare("linux-6.12", "linux-6.14"), r"compare\('linux-6.12', 'linux-6.14', guest=PATH\)"),
        (lambda: trapline.compare(), r"compare\(POLICY, POLICY, guest=PATH\)"),
        (lambda: trapline.compare(guest="x.bin"), "compare needs policies"),
        (lambda: trapline.compare("linux-6.12", guset="x.bin"), "no option 'guset': did you mean guest?"),
        (lambda: trapline.compare("linux-6.12", guest="x.bin", max_instruction=9), "did you mean max_instructions?"),
    ],
)
def test_compare_says_what_it_wants(call: Any, said: str) -> None:
    """A call without a guest, without policies or with an unknown option is told how it would be right."""
    with pytest.raises(TypeError, match=said):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.run(until=3.5), "3.5 is neither an address nor the name of a symbol"),
        (lambda m: m.run(until=["loop"]), "neither an address nor the name"),
        (lambda m: m.run(limit=-1), "-1 is no number of instructions"),
        (lambda m: m.run(limit="1M"), "'1M' is no number of instructions"),
        (lambda m: m.run(5, limit=5), "limit is another name of max_instructions"),
        (lambda m: m.on_code(1 << 64), "an address is 0 to 2"),
        (lambda m: m.on_trap("breakpoint"), "'breakpoint' is no function"),
        (lambda m: m.on_trap(causes=[999]), "0x3e7 is no cause"),
        (lambda m: m.on_trap(causes=5.0), "cause = 5.0: needed is int or str"),
        (lambda m: m.on_console(5), "5 is no text"),
        (lambda m: m.rewind(), "there is no checkpoint to rewind to"),
        (lambda m: Machine(memory="16M"), "'16M' is no number of bytes"),
        (lambda m: Machine(memory=0), "0 is no number of bytes"),
        (lambda m: Guest(memory=-1), "-1 is no number of bytes"),
    ],
)
def test_wrong_calls_are_one_clear_error(call: Any, said: str) -> None:
    """What cannot be meant is refused with what was given, before anything of the machine has changed."""
    with board() as machine:
        with pytest.raises((TypeError, ValueError), match=said):
            call(machine)
        assert not list(machine.stops)
        assert machine.run().reason == "exit"


def test_one_cause_and_one_mode_need_no_list() -> None:
    """A cause, an origin and a destination may be given by themselves."""
    with board() as machine:
        one = machine.on_trap(causes="machine-syscall", origins="M", destinations="M")
        other = machine.on_trap(causes=11)
        machine.run()
        assert one.count == other.count == 10


def test_a_closed_machine_does_not_run() -> None:
    """After `with`, or close, `run` says so; what the machine was can still be looked at."""
    guest = Guest(memory=1 << 20)
    with board() as machine, guest:
        machine.run()
    for closed in (machine, guest):
        with pytest.raises(ValueError, match="the machine is closed"):
            closed.run()
    assert machine.harts[0].x.s0 == 10
