"""The stub of gdb's remote protocol, asked by a client in Python."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.gdb.client import Behind, Client, behind
from trapline.gdb.description import FIRST_CSR, PRIV, VIRT
from trapline.gdb.listener import AddressError, Listener
from trapline.gdb.packets import BAD, Stream, encode, escape, unescape
from trapline.isa.assemble import assemble_program
from trapline.machine.machine import Machine
from trapline.machine.memory_map import RAM_BASE
from trapline.privilege import csr_numbers as csr
from trapline.vmm.guest import Guest

ENGINES = ("reference", "native")
DATA = RAM_BASE + 0x8000
SOURCE = """
 la t0, handler
 csrw mtvec, t0
 li a0, 0
 li s0, 0x80008000
loop: addi a0, a0, 1
 sd a0, 0(s0)
 ecall
 li t1, 20
 blt a0, t1, loop
 li t1, 0x100000
 li t2, 0x5555
 sw t2, 0(t1)
end: j end
.balign 4
handler: csrr t1, mepc
 addi t1, t1, 4
 csrw mepc, t1
 mret
"""
PROGRAM = assemble_program(SOURCE, RAM_BASE)
AT = PROGRAM.symbols
GUEST_AT = RAM_BASE + 0x200000
GUEST = """
start: li t0, 5
loop: li t1, 0x10001000
 lw t2, 0(t1)
 addi t0, t0, -1
 bnez t0, loop
 li a7, 0x53525354
 li a6, 0
 li a0, 0
 li a1, 0
 ecall
"""


def board(engine: str = "native", harts: int = 1, code: bytes = PROGRAM.code) -> Machine:
    machine = Machine(engine=engine, harts=harts, memory=1 << 20)
    machine.regions.write(RAM_BASE, code)
    for hart in machine.harts:
        hart.pc = RAM_BASE
    return machine


def spinning(harts: int = 1) -> Machine:
    return board(harts=harts, code=assemble_program("again: addi a0, a0, 1\nj again", RAM_BASE).code)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_session(engine: str, tmp_path: Path) -> None:
    """Breakpoints, steps, registers, memory and the end of the program are as the protocol says."""
    with behind(board(engine), tmp_path) as run:
        gdb = run.client()
        assert "qXfer:features:read+" in gdb.ask("qSupported:swbreak+;hwbreak+")
        assert gdb.ask("?") == "T05thread:1;"
        assert gdb.pc() == RAM_BASE
        assert gdb.ask(f"Z0,{AT['loop']:x},4") == "OK"
        assert gdb.ask("vCont;c") == "T05thread:1;swbreak:;"
        assert (gdb.pc(), gdb.register(10)) == (AT["loop"], 0)
        assert gdb.ask(f"z0,{AT['loop']:x},4") == "OK"
        assert gdb.ask("vCont;s:1") == "T05thread:1;"
        assert (gdb.pc(), gdb.register(10)) == (AT["loop"] + 4, 1)
        assert gdb.ask(f"vCont;r{AT['loop']:x},{AT['loop'] + 8:x}:1") == "T05thread:1;"
        assert gdb.pc() == AT["loop"] + 8
        assert gdb.ask(f"m{DATA:x},8") == "0100000000000000"
        assert gdb.ask("Pa=" + (19).to_bytes(8, "little").hex()) == "OK"
        assert gdb.ask(f"M{DATA:x},2:beef") == "OK"
        assert gdb.ask(f"X{DATA + 2:x},3:".encode() + escape(b"$#}")) == "OK"
        assert gdb.ask(f"m{DATA:x},5") == "beef24237d"
        assert gdb.ask("vCont;c") == "W00"
        assert run.end().reason == "exit"


@pytest.mark.parametrize("engine", ENGINES)
def test_watchpoints_and_catches(engine: str, tmp_path: Path) -> None:
    """A watchpoint is told as gdb expects it, at its instruction, which a step makes; catches are told in words."""
    with behind(board(engine), tmp_path) as run:
        gdb = run.client()
        assert gdb.ask(f"Z2,{DATA + 4:x},4") == "OK"
        assert gdb.ask("c") == f"T05thread:1;watch:{DATA:x};"
        assert gdb.pc() == AT["loop"] + 4
        assert gdb.ask("vCont;s:1") == "T05thread:1;"
        assert (gdb.pc(), gdb.ask(f"m{DATA:x},1")) == (AT["loop"] + 8, "01")
        assert gdb.ask(f"z2,{DATA + 4:x},4") == "OK"
        assert gdb.monitor("catch trap machine-syscall from M to M").startswith("1: ")
        assert bytes.fromhex(gdb.ask("c")[1:]).startswith(b"caught trap machine-syscall")
        assert gdb.answer() == "T05thread:1;"
        assert (gdb.pc(), gdb.register(FIRST_CSR + csr.MCAUSE)) == (AT["handler"], 11)
        assert gdb.monitor("uncatch 1") == ""
        assert gdb.monitor("catch csr mepc").startswith("2: ")
        gdb.ask("c")
        assert gdb.answer() == "T05thread:1;"
        assert gdb.pc() == AT["handler"] + 8


def test_the_description_is_the_hart(tmp_path: Path) -> None:
    """target.xml has x, pc, f, each CSR that the hart has by gdb's number, priv and virt; each can be read."""
    with behind(board(), tmp_path) as run:
        gdb = run.client()
        text = ""
        while True:
            part = gdb.ask(f"qXfer:features:read:target.xml:{len(text):x},800")
            text += unescape(part[1:].encode("latin-1")).decode()
            if part[0] == "l":
                break
        numbers = {r.get("name"): int(r.get("regnum", "0")) for r in ElementTree.fromstring(text).iter("reg")}
        expected = {"zero": 0, "pc": 32, "ft0": 33, "fcsr": 68, "vsatp": FIRST_CSR + csr.VSATP, "priv": 4161}
        assert {name: numbers[name] for name in expected} == expected
        generic = {
            r.get("name"): r.get("generic") for r in ElementTree.fromstring(text).iter("reg") if r.get("generic")
        }
        assert {name: generic[name] for name in ("pc", "sp", "a0")} == {"pc": "pc", "sp": "sp", "a0": "arg1"}  # lldb's
        assert all(len(gdb.ask(f"p{number:x}")) == 16 for number in numbers.values())
        assert (gdb.register(PRIV), gdb.register(VIRT)) == (3, 0)
        assert len(gdb.ask("g")) == 16 * 65


def test_modes_can_be_set(tmp_path: Path) -> None:
    """Writing priv and virt puts the hart into that mode; a mode that does not exist is refused."""
    with behind(board(), tmp_path) as run:
        gdb = run.client()
        assert gdb.ask(f"P{PRIV:x}=0100000000000000") == "OK"
        assert gdb.ask(f"P{VIRT:x}=0100000000000000") == "OK"
        assert gdb.ask(f"P{PRIV:x}=0200000000000000") == "E16"
        assert gdb.ask(f"P{FIRST_CSR + csr.VSSCRATCH:x}=2a00000000000000") == "OK"
        assert gdb.register(FIRST_CSR + csr.VSSCRATCH) == 42


def test_harts_are_threads(tmp_path: Path) -> None:
    """Each hart is a thread with its own registers, and a step is that of the thread that is asked for."""
    with behind(spinning(3), tmp_path) as run:
        gdb = run.client()
        assert gdb.ask("qfThreadInfo") == "m1,2,3"
        assert gdb.ask("T3") == "OK"
        assert gdb.ask("T4") == "E01"
        assert gdb.ask("Hg2") == "OK"
        assert gdb.pc() == RAM_BASE
        assert gdb.ask("vCont;s:2;c").startswith("T05thread:2;")
        assert gdb.pc() == RAM_BASE + 4
        assert 'id="3"' in gdb.ask("qXfer:threads:read::0,1000")
        assert bytes.fromhex(gdb.ask("qThreadExtraInfo,2")) == b"runs in M"


def test_an_interrupt_stops_the_run(tmp_path: Path) -> None:
    """Ctrl-C stops a run that would go on for ever, and it goes on afterwards."""
    with behind(spinning(), tmp_path) as run:
        gdb = run.client()
        for _ in range(2):
            gdb.send("c")
            gdb.raw(b"\x03")
            assert gdb.answer() == "T02thread:1;"
            assert RAM_BASE <= gdb.pc() <= RAM_BASE + 4


def test_a_client_may_come_late_and_go(tmp_path: Path) -> None:
    """A client that connects stops the run; when it detaches or dies the run goes on, and the next one is served."""
    with behind(spinning(), tmp_path, wait=False) as run:
        for way in ("D", "close", "D"):
            gdb = run.client()
            assert gdb.ask("?") == "T05thread:1;"
            first = gdb.register(10)
            assert gdb.ask(f"Z0,{RAM_BASE:x},4") == "OK"
            assert gdb.ask("vCont;c") == "T05thread:1;swbreak:;"
            assert gdb.register(10) >= first
            if way == "D":
                assert gdb.ask("D") == "OK"
            gdb.close()
        assert run.thread.is_alive()
        assert [text for text in run.said if "gone" in text] == ["gdb: the client is gone; the run goes on"]


def test_a_second_client_is_refused(tmp_path: Path) -> None:
    """While one client is served another one is turned away, and told of."""
    with behind(spinning(), tmp_path) as run:
        gdb = run.client()
        assert gdb.ask("?")
        other = run.client()
        assert other.closed()
        assert gdb.ask("?")
        assert "gdb: a second client was refused" in run.said


def test_kill_ends_the_run(tmp_path: Path) -> None:
    """`k` ends the run as Ctrl-A x does, and so does vKill, which is answered."""
    with behind(spinning(), tmp_path) as run:
        run.client().send("k")
        assert run.end().reason == "quit"
    with behind(spinning(), tmp_path) as run:
        assert run.client().ask("vKill;a410") == "OK"
        assert run.end().reason == "quit"


def test_a_run_outlives_a_client_that_dies_while_it_goes_on(tmp_path: Path) -> None:
    """The run goes on to its own limit, not to where a checkpoint would have been made for the client."""
    with behind(spinning(), tmp_path, limit=1_000_000_000) as run:
        gdb = run.client()
        gdb.ask("?")
        gdb.send("c")
        gdb.close()
        result = run.end()
    assert (result.reason, result.instructions) == ("limit", 1_000_000_000)


def test_limits_hold_with_a_debugger(tmp_path: Path) -> None:
    """The limit of instructions counts those between all stops."""
    with behind(spinning(), tmp_path, limit=1000) as run:
        gdb = run.client()
        assert gdb.ask("s") == "T05thread:1;"
        assert gdb.ask("c") == "W03"
        result = run.end()
        assert (result.reason, result.instructions) == ("limit", 1000)
        assert result.message == "the limit of 1 000 instructions was reached"


def test_a_run_that_is_held_is_paused(tmp_path: Path) -> None:
    """The monitor says so while gdb holds the run, as QEMU's does, and lists no command that it does not take."""
    with behind(spinning(), tmp_path, limit=1000) as run:
        gdb = run.client()
        assert gdb.monitor("info status").splitlines()[0] == "VM status: paused (debug)"
        listed = gdb.monitor("help")
        for name in re.findall(r"^([a-z_]+)", listed, re.MULTILINE):
            assert "is for the console" not in gdb.monitor(name), name
        assert gdb.monitor("cpu 0") == "'cpu' is for the console: here gdb's own thread does it\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_is_debugged(engine: str, tmp_path: Path) -> None:
    """In a guest: its memory and mode, breakpoints, a trap to hosted KVM from VS, routes, and its end."""
    guest = Guest(engine=engine, memory=16 << 20)
    program = assemble_program(GUEST, GUEST_AT)
    guest.load_bytes(program.code)
    with behind(guest, tmp_path) as run:
        gdb = run.client()
        assert (gdb.pc(), gdb.register(PRIV), gdb.register(VIRT)) == (GUEST_AT, 1, 1)
        assert gdb.ask(f"Z1,{program.symbols['loop']:x},4") == "OK"
        assert gdb.ask("c") == "T05thread:1;swbreak:;"
        assert bytes.fromhex(gdb.ask(f"m{GUEST_AT:x},4")) == program.code[:4]
        assert gdb.ask(f"z1,{program.symbols['loop']:x},4") == "OK"
        assert gdb.monitor("catch trap load-guest-page-fault from VS").startswith("1: ")
        gdb.ask("c")
        assert gdb.answer() == "T05thread:1;"
        assert gdb.register(FIRST_CSR + csr.HTVAL) == 0x1000_1000 >> 2
        assert gdb.monitor("uncatch all") == ""
        assert gdb.ask("s").startswith("T05")
        assert "0x" in gdb.monitor(f"gpa {GUEST_AT:#x}")
        assert "load-guest-page-fault" in gdb.monitor("routes")
        assert gdb.ask("c") == "W00"
        assert run.end().reason == "exit"


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        *(("vMustReplyEmpty", ""), ("vCont?", "vCont;c;C;s;S;r"), ("vCont;x", "E01"), ("vCont;s:99", "E01")),
        *(("m0,8", "E14"), ("m", "E01"), ("mzz,8", "E01"), ("M80000000,2:beefbe", "E01"), ("M0,1:00", "E14")),
        *(("pffff", "E01"), ("P20", "E01"), ("G00", "E01"), ("Z9,0,0", ""), ("Z0,1", "E01"), ("Hg99", "E01")),
        *(("qXfer:features:read:other.xml:0,10", "E00"), ("qXfer:auxv:read::0,10", "E00"), ("qC", "QC1")),
        *(("qXfer:features:read:target.xml:0", "E01"), ("Tx", "E01"), ("", ""), ("bx", ""), ("~", "")),
        *(
            ("Z2,ffffffffffffffff,4", "E01"),
            (f"P{FIRST_CSR + csr.MHARTID if hasattr(csr, 'MHARTID') else 4000:x}=" + "00" * 8, "E16"),
        ),
    ],
)
def test_wrong_packets_have_answers(packet: str, answer: str, board_behind: Behind) -> None:
    """What is not known is answered by nothing, what is malformed or not there by an error."""
    gdb = board_behind.client()
    assert gdb.ask(packet) == answer


@pytest.fixture
def machine() -> Machine:
    return spinning()


@pytest.fixture
def board_behind(machine: Machine, tmp_path: Path):  # type: ignore[no-untyped-def]
    with behind(machine, tmp_path) as run:
        yield run


def test_monitor_commands_say_what_is_wrong(board_behind: Behind) -> None:
    """A monitor command that is wrong is answered in a line."""
    gdb = board_behind.client()
    for line in (
        "catch trap nonsense",
        "catch trap any from Q",
        "catch csr nope",
        "catch",
        "uncatch 9",
        "gpa x",
        "quit",
    ):
        assert gdb.monitor(line).count("\n") == 1, line
    assert "mstatus" in gdb.monitor("info registers")
    assert gdb.monitor("xp/1wx 0x80000000").startswith("0000000080000000")


@pytest.mark.parametrize("topic", ["registers", "stats", "mem", "mtree", "status"])
def test_monitor_info(topic: str, board_behind: Behind) -> None:
    """`monitor info` has every topic of the terminal's monitor."""
    said = board_behind.client().monitor(f"info {topic}")
    assert said
    assert "unknown" not in said


def test_bad_checksums_are_sent_again(board_behind: Behind) -> None:
    """A packet with a wrong checksum is answered by `-`; one that the client did not understand is sent again."""
    gdb = board_behind.client()
    gdb.raw(b"$?#00")
    assert gdb.socket.recv(1) == b"-"
    assert gdb.ask("?") == "T05thread:1;"
    gdb.raw(b"-")
    assert gdb.answer() == "T05thread:1;"
    assert gdb.ask("QStartNoAckMode") == "OK"
    gdb.raw(b"$?#00")
    assert gdb.ask("qC") == "QC1"


@pytest.mark.parametrize("seed", range(6))
def test_garbage_costs_nothing(seed: int, board_behind: Behind) -> None:
    """Random bytes and random packets never end the run, and a client that follows is served."""
    rng = random.Random(seed)
    letters = b"?gGpPmMXHTZzqQvDbs!~$#}*"
    gdb = board_behind.client()
    for _ in range(150):
        data = rng.randbytes(rng.randrange(60)).replace(b"\x03", b"").replace(b"k", b"").replace(b"K", b"")
        if rng.random() < 0.7:
            rest = bytes(rng.choice(b"0123456789abdef,;:=-") for _ in range(rng.randrange(20)))
            data = encode(bytes((rng.choice(letters),)) + rest)
        with contextlib.suppress(OSError):  # detached
            gdb.raw(data)
            while select.select([gdb.socket], [], [], 0)[0] and gdb.socket.recv(1 << 16):
                pass
    gdb.close()
    again = board_behind.client()
    assert again.ask("?").startswith("T0")
    assert board_behind.thread.is_alive()


def test_streams_are_cut_into_packets() -> None:
    """Packets come whole however they are cut, escapes are undone, and one that never ends is given up."""
    data = bytes(range(256))
    packet = encode(escape(data))
    stream = Stream()
    found = [item for byte in packet * 2 for item in stream.feed(bytes((byte,)))]
    assert [(whole, unescape(content)) for whole, content in found] == [(True, data)] * 2
    assert list(Stream().feed(b"$" + b"a" * 100_000)) == [(False, BAD)]


def test_addresses(tmp_path: Path) -> None:
    """A port is of this host alone; what cannot be listened at is one line."""
    first = Listener("0")
    try:
        assert first.describe().startswith("127.0.0.1:")
        with pytest.raises(AddressError, match="cannot listen at"):
            Listener(f"127.0.0.1:{first.port}")
    finally:
        first.close()
    (tmp_path / "file").write_text("")
    for address in (
        "nonsense",
        "99999",
        "unix:",
        f"unix:{tmp_path}/file",
        f"unix:{tmp_path}/no/where",
        "no.such.host.:1",
    ):
        with pytest.raises(AddressError):
            Listener(address)


def test_a_socket_of_a_dead_run_is_taken_over(tmp_path: Path) -> None:
    """The Unix socket that a killed run left is used again, one that somebody listens at is not."""
    path = tmp_path / "socket"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    listener = Listener(f"unix:{path}")
    with pytest.raises(AddressError, match="another run listens"):
        Listener(f"unix:{path}")
    client = Client(str(path))
    client.close()
    listener.close()
    assert not path.exists()
