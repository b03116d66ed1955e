"""Address translation: one stage, two stages, and the fault of every corner."""

from __future__ import annotations

import pytest
from privilege_board import NAPOT, PBMT_IO, RAM, RWX, USER_RWX, A, Board, D, G, R, U, V, W, X

from trapline.lang.functions import Trap
from trapline.privilege import fields
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.memory import fetch

LOAD, STORE, FETCH, MANAGE = 0, 1, 2, 3
PAGE = (13, 15, 12, 15)
GUEST_PAGE = (21, 23, 20, 23)
ACCESS = (5, 7, 1, 7)
VA, PA = 0x10_2000_3000, RAM + 0x5000
SUM, MXR = fields.MSTATUS_SUM, fields.MSTATUS_MXR
MODES = {3: 8, 4: 9, 5: 10}


def paged(levels: int = 3, mode: str = "HS", isa: str = DEFAULT_ISA) -> tuple[Board, int]:
    """A board with an empty S-stage table, in the given mode; A and D are software's."""
    board = Board(isa)
    board.write("menvcfg", 0)
    root = board.table()
    board.write("satp", MODES[levels] << 60 | root >> 12)
    board.mode(mode)
    return board, root


class Guest(Board):
    """A board in VS-mode (or VU) with both stages on; table(...) below lie in identity-mapped guest memory."""

    def __init__(self, vs: int | None = 3, g: int | None = 3, mode: str = "VS") -> None:
        super().__init__()
        self.write("menvcfg", 0)
        self.vs_levels, self.g_levels = vs, g
        self.g_root = self.table(4)
        self.vs_root = self.table()
        if g is not None:
            self.write("hgatp", MODES[g] << 60 | 7 << 44 | self.g_root >> 12)
            for page in range(RAM + 0x18_0000, RAM + 0x20_0000, 4096):
                self.map_g(page, page)
        if vs is not None:
            self.write("vsatp", MODES[vs] << 60 | 3 << 44 | self.vs_root >> 12)
        self.mode(mode)

    def map_g(self, gpa: int, pa: int, flags: int = USER_RWX, level: int = 0) -> int:
        assert self.g_levels is not None
        return self.map(self.g_root, self.g_levels, gpa, pa, flags, level=level, widened=True)

    def map_vs(self, va: int, gpa: int, flags: int = RWX, level: int = 0) -> int:
        assert self.vs_levels is not None
        return self.map(self.vs_root, self.vs_levels, va, gpa, flags, level=level)


def tval2_tinst(trap: Trap) -> tuple[int, int]:
    return trap.tval2, trap.tinst


# --- one stage ---


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_page(levels: int) -> None:
    """Sv39, Sv48 and Sv57 walk their number of levels to a page."""
    board, root = paged(levels)
    va = (VA + (1 << 38)) & (1 << (12 + 9 * levels - 1)) - 1
    board.map(root, levels, va, PA, RWX)
    assert board.translate(va + 0x123) == PA + 0x123
    assert board.hart.walk_page == 0


def test_superpage() -> None:
    """A leaf above the last level maps its whole span, and walk_page says so."""
    board, root = paged()
    board.map(root, 3, 0x4000_0000, 0x8000_0000, RWX, level=2)
    assert board.translate(0x4012_3456) == 0x8012_3456
    assert board.hart.walk_page == 1


@pytest.mark.parametrize("access", [LOAD, STORE, FETCH, MANAGE])
@pytest.mark.parametrize(
    "flags",
    [
        0,
        R | W | X | A | D,
        V | W | A | D,
        V | W | X | A | D,
        V | A,
        V | U,
        V | NAPOT,
        RWX & ~A,
        RWX | 1 << 54,
        RWX | NAPOT,
    ],
)
def test_bad_ptes(access: int, flags: int) -> None:
    """Invalid, reserved and A-less PTEs raise the page fault of the access, with V=0's GVA."""
    board, root = paged()
    board.map(root, 3, VA, PA, flags)
    trap = board.fault(VA, access)
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (PAGE[access], 0, 0, 0)


def test_misaligned_superpage() -> None:
    """A superpage whose low PPN bits are not zero is a page fault."""
    board, root = paged()
    board.map(root, 3, VA & ~0x1FFFFF, RAM + 0x1000, RWX, level=1)
    assert board.fault(VA).cause == 13


@pytest.mark.parametrize("va", [1 << 38, 0x8000_0000_0000_0000, 0xFFFF_FFBF_FFFF_F000])
def test_canonical_addresses(va: int) -> None:
    """Bits above the virtual address must equal its top bit."""
    board, _ = paged()
    assert board.fault(va, FETCH).cause == 12


@pytest.mark.parametrize(
    ("mode", "flags", "status", "access", "allowed"),
    [
        ("U", RWX, 0, LOAD, False),
        ("U", USER_RWX, 0, FETCH, True),
        ("HS", USER_RWX, 0, LOAD, False),
        ("HS", USER_RWX, SUM, LOAD, True),
        ("HS", USER_RWX, SUM, STORE, True),
        ("HS", USER_RWX, SUM, FETCH, False),
        ("HS", V | X | A, 0, LOAD, False),
        ("HS", V | X | A, MXR, LOAD, True),
        ("HS", V | X | A, MXR, MANAGE, True),
        ("HS", V | X | A, MXR, STORE, False),
        ("HS", V | R | A, 0, STORE, False),
        ("HS", V | R | A, 0, FETCH, False),
        ("HS", V | R | A, 0, MANAGE, True),
        ("HS", V | R | W | A, 0, STORE, False),
        ("HS", V | R | W | A | G, 0, LOAD, True),
    ],
)
def test_permissions(mode: str, flags: int, status: int, access: int, allowed: bool) -> None:
    """U, SUM, MXR, R, W, X, A and D decide."""
    board, root = paged()
    board.map(root, 3, VA, PA, flags)
    board.write("mstatus", status)
    board.mode(mode)
    if allowed:
        assert board.translate(VA, access) == PA
    else:
        assert board.fault(VA, access).cause == PAGE[access]


def test_svnapot() -> None:
    """A NAPOT leaf of 64 KiB takes the low four page bits from the address; without Svnapot it is reserved."""
    for isa, works in ((DEFAULT_ISA, True), (DEFAULT_ISA.replace("_svnapot", ""), False)):
        board, root = paged(isa=isa)
        va = 0x1_0005_0000
        board.map(root, 3, va + 0x7000, RAM + 0x8_8000, RWX | NAPOT)
        if works:
            assert board.translate(va + 0x7123) == RAM + 0x8_7123
            assert board.hart.walk_page == 1
        else:
            assert board.fault(va + 0x7123).cause == 13


def test_svpbmt() -> None:
    """PBMT bits are reserved until menvcfg.PBMTE, the value 3 always."""
    board, root = paged()
    board.map(root, 3, VA, PA, RWX | PBMT_IO)
    board.map(root, 3, VA + 4096, PA, RWX | 3 << 61)
    assert board.fault(VA).cause == 13
    board.write("menvcfg", fields.ENVCFG_PBMTE)
    assert board.translate(VA) == PA
    assert board.fault(VA + 4096).cause == 13


def test_svadu() -> None:
    """Corner case 13: with menvcfg.ADUE the walker sets A, and D for a store; without it that is a page fault."""
    board, root = paged()
    pte = board.map(root, 3, VA, PA, V | R | W)
    assert board.fault(VA).cause == 13
    board.write("menvcfg", fields.ENVCFG_ADUE)
    assert board.translate(VA) == PA
    assert board.read64(pte) & (A | D) == A
    assert board.translate(VA, STORE) == PA
    assert board.read64(pte) & (A | D) == A | D


@pytest.mark.parametrize("access", [LOAD, STORE, FETCH])
def test_pte_outside_memory(access: int) -> None:
    """Corner case 3: a PTE that cannot be read is an access fault of the original type, not a page fault."""
    board = Board()
    board.write("satp", 8 << 60 | 0x1000)
    board.mode("HS")
    trap = board.fault(VA, access)
    assert (trap.cause, trap.tval2, trap.gva) == (ACCESS[access], 0, 0)


def test_pte_behind_pmp() -> None:
    """Corner case 3: PMP is asked about PTE reads with the privilege of S-mode, and about A/D updates as stores."""
    board, root = paged()
    board.map(root, 3, VA, PA, V | R | W)
    board.write("menvcfg", fields.ENVCFG_ADUE)
    board.write("pmpaddr0", (root | 0x7FF) >> 2)
    board.write("pmpaddr1", -1)
    board.write("pmpcfg0", 0x1F << 8 | 0x18)
    assert board.fault(VA).cause == 5
    board.write("pmpaddr0", RAM >> 2 | (0x20_0000 >> 3) - 1)
    board.write("pmpcfg0", 0x1F << 8 | 0x19)
    assert board.fault(VA).cause == 5
    board.write("pmpcfg0", 0x1F << 8 | 0x1B)
    assert board.translate(VA) == PA


def test_machine_mode_and_bare_do_not_translate() -> None:
    """M-mode, and S-mode with satp Bare, use physical addresses of any value."""
    board, _ = paged(mode="M")
    assert board.translate(0x1234_5678_9ABC_DEF0) == 0x1234_5678_9ABC_DEF0
    board.write("satp", 0)
    board.mode("U")
    assert board.translate(0xFEDC_5678_9ABC_DEF0) == 0xFEDC_5678_9ABC_DEF0


# --- two stages ---


@pytest.mark.parametrize("g", [3, 4, 5])
@pytest.mark.parametrize("vs", [3, 4, 5])
def test_two_stages(vs: int, g: int) -> None:
    """Every pair of VS-stage and G-stage modes composes, tables included."""
    board = Guest(vs, g)
    gpa = 0x80_0000_7000
    board.map_vs(0x3F_F000_2000, gpa)
    board.map_g(gpa, PA)
    assert board.translate(0x3F_F000_2ABC) == PA + 0xABC
    assert board.hart.walk_gpa == gpa + 0xABC


def test_widened_root() -> None:
    """Sv39x4 takes two more address bits than Sv39 from a root of 16 KiB."""
    board = Guest(None, 3)
    gpa = 0x1C0_0000_0000
    board.map_g(gpa, PA)
    assert board.translate(gpa) == PA


@pytest.mark.parametrize(("g", "limit"), [(3, 41), (4, 50), (5, 59)])
@pytest.mark.parametrize("access", [LOAD, STORE, FETCH])
def test_guest_physical_limit(g: int, limit: int, access: int) -> None:
    """Corner cases 5 and 6: a GPA beyond the G-stage's width is a guest-page fault; with vsatp Bare, VA is GPA."""
    board = Guest(None, g)
    trap = board.fault(1 << limit, access)
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (GUEST_PAGE[access], 1 << limit - 2, 0, 1)
    assert board.fault(0xFFFF_FFFF_8000_0000, access).cause == GUEST_PAGE[access]


def test_vs_canonical_fault_is_a_page_fault() -> None:
    """Corner case 6: the canonical check is the VS-stage's alone, and GVA is 1."""
    trap = Guest().fault(1 << 38, STORE)
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (15, 0, 0, 1)


@pytest.mark.parametrize("access", [LOAD, STORE, FETCH])
def test_final_guest_page_fault(access: int) -> None:
    """Corner case 4: where the data's GPA has no page, tval2 is that GPA >> 2 and tinst 0."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000)
    trap = board.fault(VA + 0x124, access)
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (GUEST_PAGE[access], 0x9000_0124 >> 2, 0, 1)


@pytest.mark.parametrize("access", [LOAD, STORE, FETCH])
def test_guest_page_fault_on_a_pte(access: int) -> None:
    """Corner case 4: where a VS-stage PTE has no page, tval2 is the PTE's GPA >> 2 and tinst 0x3000."""
    board = Guest()
    board.write("vsatp", 8 << 60 | 0x9000_0000 >> 12)
    trap = board.fault(VA, access)
    pte = 0x9000_0000 + (VA >> 30) * 8
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (GUEST_PAGE[access], pte >> 2, 0x3000, 1)


@pytest.mark.parametrize("access", [LOAD, STORE, FETCH])
def test_guest_page_fault_on_an_ad_update(access: int) -> None:
    """Corner case 4: A/D update of a PTE in a page that G-stage maps read-only: original cause, tinst 0x3020."""
    board = Guest()
    board.write("menvcfg", fields.ENVCFG_ADUE)
    board.write("henvcfg", fields.ENVCFG_ADUE)
    pte = board.map_vs(VA, 0x9000_0000, V | R | W | X)
    board.map_g(pte & ~4095, pte & ~4095, V | R | U | A)
    trap = board.fault(VA, access)
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (GUEST_PAGE[access], pte >> 2, 0x3020, 1)


@pytest.mark.parametrize("access", [LOAD, STORE, FETCH])
@pytest.mark.parametrize("stage", ["vs", "g"])
def test_pte_of_either_stage_outside_memory(stage: str, access: int) -> None:
    """Corner case 3: PTEs outside memory, in either stage, are access faults with GVA=1 and tval2=0."""
    board = Guest()
    if stage == "vs":
        board.write("vsatp", 8 << 60 | 0x9000_0000 >> 12)
        board.map_g(0x9000_0000 + (VA >> 30) * 8 & ~4095, 0x1000_0000)
    else:
        board.write("hgatp", 8 << 60 | 0x1000_0000 >> 12)
    trap = board.fault(VA, access)
    assert (trap.cause, trap.tval2, trap.tinst, trap.gva) == (ACCESS[access], 0, 0, 1)


@pytest.mark.parametrize("flags", [RWX, 0, V | U, USER_RWX & ~A, USER_RWX | PBMT_IO, V | U | R | A, V | U | W | A | D])
def test_g_stage_leaf_must_be_a_user_page(flags: int) -> None:
    """Corner case 5: a G-stage leaf without U, A, D or W for the store, or a malformed one, is a guest-page fault."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000)
    board.map_g(0x9000_0000, PA, flags)
    assert board.fault(VA, STORE).cause == 23


@pytest.mark.parametrize("extra", [U, A, D])
def test_g_stage_pointer_with_leaf_bits(extra: int) -> None:
    """Corner case 5: a non-leaf PTE with U, A or D set is reserved."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000)
    board.map_g(0x9000_0000, PA)
    place = board.g_root + (0x9000_0000 >> 30) * 8
    board.write64(place, board.read64(place) | extra)
    assert board.fault(VA).cause == 21


def test_mxr_of_each_level() -> None:
    """Corner case 7: sstatus.MXR makes both stages readable, vsstatus.MXR the VS-stage alone."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000, V | X | A)
    board.map_g(0x9000_0000, PA, V | X | U | A)
    assert board.fault(VA).cause == 13
    board.write("vsstatus", MXR)
    assert board.fault(VA).cause == 21
    board.write("vsstatus", 0)
    board.write("mstatus", MXR)
    assert board.translate(VA) == PA


def test_sum_of_each_level() -> None:
    """Corner case 7: VS-mode loads from U pages heed vsstatus.SUM; that of sstatus does not count."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000, USER_RWX)
    board.map_g(0x9000_0000, PA)
    board.write("mstatus", SUM)
    assert board.fault(VA).cause == 13
    board.write("vsstatus", SUM)
    assert board.translate(VA) == PA


def test_hlvx_reads_what_is_executable() -> None:
    """Corner case 7: HLVX wants X in both stages, R nowhere, ignores MXR, and faults as a load."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000, V | X | A)
    g = board.map_g(0x9000_0000, PA, V | X | U | A)
    assert board.translate(VA, hlvx=1) == PA
    board.write64(g, PA >> 12 << 10 | V | R | U | A)
    assert board.fault(VA, hlvx=1).cause == 21
    board.map_vs(VA, 0x9000_0000, V | R | A)
    board.write("mstatus", MXR)
    trap = board.fault(VA, hlvx=1)
    assert (trap.cause, trap.gva) == (13, 1)


def test_ad_updates_of_both_stages() -> None:
    """Corner case 13: henvcfg.ADUE governs the VS-stage, menvcfg.ADUE the G-stage; reading a PTE sets G-stage A."""
    board = Guest()
    vs = board.map_vs(VA, 0x9000_0000, V | R | W)
    data = board.map_g(0x9000_0000, PA, V | R | W | U)
    table = board.map_g(vs & ~4095, vs & ~4095, V | R | W | U)
    board.write("menvcfg", fields.ENVCFG_ADUE)
    assert board.fault(VA).cause == 13
    assert board.read64(table) & (A | D) == A
    board.write("henvcfg", fields.ENVCFG_ADUE)
    board.translate(VA)
    assert [board.read64(p) & (A | D) for p in (vs, data, table)] == [A, A, A | D]
    board.translate(VA, STORE)
    assert [board.read64(p) & (A | D) for p in (vs, data)] == [A | D, A | D]


def test_pbmte_of_both_stages() -> None:
    """henvcfg.PBMTE governs PBMT in VS-stage PTEs, menvcfg.PBMTE in G-stage ones."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000, RWX | PBMT_IO)
    board.map_g(0x9000_0000, PA, USER_RWX | PBMT_IO)
    assert board.fault(VA).cause == 13
    board.write("menvcfg", fields.ENVCFG_PBMTE)
    assert board.fault(VA).cause == 13
    board.write("henvcfg", fields.ENVCFG_PBMTE)
    assert board.translate(VA) == PA


def test_vs_stage_alone() -> None:
    """With hgatp Bare, guest physical addresses are physical."""
    board = Guest(3, None)
    board.map_vs(VA, PA)
    assert board.translate(VA) == PA


@pytest.mark.parametrize(("vs", "g", "large"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)])
def test_walk_page_of_two_stages(vs: int, g: int, large: int) -> None:
    """walk_page is 1 if either stage's leaf is larger than 4 KiB."""
    board = Guest()
    board.map_vs(VA & ~0x1FFFFF if vs else VA, 0x9000_0000, level=vs)
    board.map_g(0x9000_0000 if g or not vs else 0x9000_3000, 0x8000_0000 if g else PA, level=g)
    board.translate(VA)
    assert board.hart.walk_page == large


def test_fetch_across_a_page() -> None:
    """If an instruction's second half faults (corner case 17), tval is the second page, tval2 its GPA."""
    board = Guest()
    board.map_vs(VA, 0x9000_0000)
    board.map_vs(VA + 4096, 0x9000_1000)
    board.map_g(0x9000_0000, PA)
    board.write64(PA + 0xFF8, 0x0003 << 48)
    board.hart.pc = VA + 0xFFE
    with pytest.raises(Trap) as raised:
        fetch(board.hart)
    trap = raised.value
    assert (trap.cause, trap.tval, trap.tval2, trap.gva) == (20, VA + 4096, 0x9000_1000 >> 2, 1)
