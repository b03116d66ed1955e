"""Zcb: more compressed instructions, each another spelling of a 32-bit one."""

from __future__ import annotations

from trapline.lang.functions import compressed

compressed("c.lbu rd, uimm(rs1)", "100 000 rs1' uimm[0|1] rd' 00", "lbu rd=rd, rs1=rs1, imm=uimm", extension="Zcb")
compressed("c.lhu rd, uimm(rs1)", "100 001 rs1' 0 uimm[1] rd' 00", "lhu rd=rd, rs1=rs1, imm=uimm", extension="Zcb")
compressed("c.lh rd, uimm(rs1)", "100 001 rs1' 1 uimm[1] rd' 00", "lh rd=rd, rs1=rs1, imm=uimm", extension="Zcb")
compressed("c.sb rs2, uimm(rs1)", "100 010 rs1' uimm[0|1] rs2' 00", "sb rs2=rs2, rs1=rs1, imm=uimm", extension="Zcb")
compressed("c.sh rs2, uimm(rs1)", "100 011 rs1' 0 uimm[1] rs2' 00", "sh rs2=rs2, rs1=rs1, imm=uimm", extension="Zcb")

compressed("c.zext.b rd", "100 111 rd' 11 000 01", "andi rd=rd, rs1=rd, imm=255", extension="Zcb")
compressed("c.sext.b rd", "100 111 rd' 11 001 01", "sext.b rd=rd, rs1=rd", extension="Zcb&Zbb")
compressed("c.zext.h rd", "100 111 rd' 11 010 01", "zext.h rd=rd, rs1=rd", extension="Zcb&Zbb")
compressed("c.sext.h rd", "100 111 rd' 11 011 01", "sext.h rd=rd, rs1=rd", extension="Zcb&Zbb")
compressed("c.zext.w rd", "100 111 rd' 11 100 01", "add.uw rd=rd, rs1=rd, rs2=0", extension="Zcb&Zba")
compressed("c.not rd", "100 111 rd' 11 101 01", "xori rd=rd, rs1=rd, imm=-1", extension="Zcb")
compressed("c.mul rd, rs2", "100 111 rd' 10 rs2' 01", "mul rd=rd, rs1=rd, rs2=rs2", extension="Zcb&M")
