"""C extension for compressed instructions: each is another spelling of a 32-bit instruction.

Hints are legal and expand to instructions without effect; reserved encodings are not in the table, so
they are illegal. Where two patterns overlap the one with more fixed bits wins (isa.decode).
"""

from __future__ import annotations

from trapline.lang.functions import compressed


def _nonzero_imm(fields: dict[str, int]) -> bool:
    """Return whether the immediate is not zero; the zero encoding is reserved."""
    return fields.get("imm", fields.get("uimm")) != 0


def _nonzero_rd(fields: dict[str, int]) -> bool:
    """Return whether rd is not x0; that encoding is reserved."""
    return fields["rd"] != 0


def _nonzero_rs1(fields: dict[str, int]) -> bool:
    """Return whether rs1 is not x0; that encoding is reserved or another instruction."""
    return fields["rs1"] != 0


def _nonzero_rs2(fields: dict[str, int]) -> bool:
    """Return whether rs2 is not x0; that encoding is another instruction."""
    return fields["rs2"] != 0


# Quadrant 0.

compressed(
    "c.addi4spn rd, sp, uimm",
    "000 uimm[5:4|9:6|2|3] rd' 00",
    "addi rd=rd, rs1=2, imm=uimm",
    where=_nonzero_imm,
)
compressed(
    "c.fld frd, uimm(rs1)", "001 uimm[5:3] rs1' uimm[7:6] rd' 00", "fld rd=rd, rs1=rs1, imm=uimm", extension="C&D"
)
compressed("c.lw rd, uimm(rs1)", "010 uimm[5:3] rs1' uimm[2|6] rd' 00", "lw rd=rd, rs1=rs1, imm=uimm")
compressed("c.ld rd, uimm(rs1)", "011 uimm[5:3] rs1' uimm[7:6] rd' 00", "ld rd=rd, rs1=rs1, imm=uimm")
compressed(
    "c.fsd frs2, uimm(rs1)", "101 uimm[5:3] rs1' uimm[7:6] rs2' 00", "fsd rs2=rs2, rs1=rs1, imm=uimm", extension="C&D"
)
compressed("c.sw rs2, uimm(rs1)", "110 uimm[5:3] rs1' uimm[2|6] rs2' 00", "sw rs2=rs2, rs1=rs1, imm=uimm")
compressed("c.sd rs2, uimm(rs1)", "111 uimm[5:3] rs1' uimm[7:6] rs2' 00", "sd rs2=rs2, rs1=rs1, imm=uimm")

# Quadrant 1.

compressed("c.nop imm", "000 imm[5] 00000 imm[4:0] 01", "addi rd=0, rs1=0, imm=imm")
compressed("c.addi rd, imm", "000 imm[5] rd imm[4:0] 01", "addi rd=rd, rs1=rd, imm=imm")
compressed("c.addiw rd, imm", "001 imm[5] rd imm[4:0] 01", "addiw rd=rd, rs1=rd, imm=imm", where=_nonzero_rd)
compressed("c.li rd, imm", "010 imm[5] rd imm[4:0] 01", "addi rd=rd, rs1=0, imm=imm")
compressed("c.addi16sp sp, imm", "011 imm[9] 00010 imm[4|6|8:7|5] 01", "addi rd=2, rs1=2, imm=imm", where=_nonzero_imm)
compressed(
    "c.lui rd, upper",
    "011 imm[17] rd imm[16:12] 01",
    "lui rd=rd, imm=imm",
    where=lambda f: f["imm"] != 0 and f["rd"] != 2,
)
compressed("c.srli rd, shamt", "100 shamt[5] 00 rd' shamt[4:0] 01", "srli rd=rd, rs1=rd, shamt=shamt")
compressed("c.srai rd, shamt", "100 shamt[5] 01 rd' shamt[4:0] 01", "srai rd=rd, rs1=rd, shamt=shamt")
compressed("c.andi rd, imm", "100 imm[5] 10 rd' imm[4:0] 01", "andi rd=rd, rs1=rd, imm=imm")
compressed("c.sub rd, rs2", "100 0 11 rd' 00 rs2' 01", "sub rd=rd, rs1=rd, rs2=rs2")
compressed("c.xor rd, rs2", "100 0 11 rd' 01 rs2' 01", "xor rd=rd, rs1=rd, rs2=rs2")
compressed("c.or rd, rs2", "100 0 11 rd' 10 rs2' 01", "or rd=rd, rs1=rd, rs2=rs2")
compressed("c.and rd, rs2", "100 0 11 rd' 11 rs2' 01", "and rd=rd, rs1=rd, rs2=rs2")
compressed("c.subw rd, rs2", "100 1 11 rd' 00 rs2' 01", "subw rd=rd, rs1=rd, rs2=rs2")
compressed("c.addw rd, rs2", "100 1 11 rd' 01 rs2' 01", "addw rd=rd, rs1=rd, rs2=rs2")
compressed("c.j target", "101 imm[11|4|9:8|10|6|7|3:1|5] 01", "jal rd=0, imm=imm")
compressed("c.beqz rs1, target", "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "beq rs1=rs1, rs2=0, imm=imm")
compressed("c.bnez rs1, target", "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "bne rs1=rs1, rs2=0, imm=imm")

# Quadrant 2.

compressed("c.slli rd, shamt", "000 shamt[5] rd shamt[4:0] 10", "slli rd=rd, rs1=rd, shamt=shamt")
compressed("c.fldsp frd, uimm(sp)", "001 uimm[5] rd uimm[4:3|8:6] 10", "fld rd=rd, rs1=2, imm=uimm", extension="C&D")
compressed("c.lwsp rd, uimm(sp)", "010 uimm[5] rd uimm[4:2|7:6] 10", "lw rd=rd, rs1=2, imm=uimm", where=_nonzero_rd)
compressed("c.ldsp rd, uimm(sp)", "011 uimm[5] rd uimm[4:3|8:6] 10", "ld rd=rd, rs1=2, imm=uimm", where=_nonzero_rd)
compressed("c.jr rs1", "100 0 rs1 00000 10", "jalr rd=0, rs1=rs1, imm=0", where=_nonzero_rs1)
compressed("c.mv rd, rs2", "100 0 rd rs2 10", "add rd=rd, rs1=0, rs2=rs2", where=_nonzero_rs2)
compressed("c.ebreak", "100 1 00000 00000 10", "ebreak")
compressed("c.jalr rs1", "100 1 rs1 00000 10", "jalr rd=1, rs1=rs1, imm=0", where=_nonzero_rs1)
compressed("c.add rd, rs2", "100 1 rd rs2 10", "add rd=rd, rs1=rd, rs2=rs2", where=_nonzero_rs2)
compressed("c.fsdsp frs2, uimm(sp)", "101 uimm[5:3|8:6] rs2 10", "fsd rs2=rs2, rs1=2, imm=uimm", extension="C&D")
compressed("c.swsp rs2, uimm(sp)", "110 uimm[5:2|7:6] rs2 10", "sw rs2=rs2, rs1=2, imm=uimm")
compressed("c.sdsp rs2, uimm(sp)", "111 uimm[5:3|8:6] rs2 10", "sd rs2=rs2, rs1=2, imm=uimm")
