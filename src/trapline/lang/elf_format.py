"""The structures of an ELF64 file, little endian (System V ABI, chapters 4 and 5), for those that read or write one."""

from __future__ import annotations

import struct

MAGIC = b"\x7fELF"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")

ET_EXEC, EM_RISCV, PT_LOAD = 2, 243, 1
SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHF_ALLOC = 2, 3, 4, 2
R_X86_64_PC32, R_X86_64_PLT32 = 2, 4
