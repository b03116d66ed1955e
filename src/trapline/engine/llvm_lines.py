"""Lines of LLVM's own text, read: how templates are told apart, cut and joined. What is written is `llvm.Builder`'s."""

from __future__ import annotations

import re

NAME = re.compile(r"%[-{}\w.$]+")
NUMBER = re.compile(r"(?<![\w.%$-])\d+\b")

# --- registers and words of the state ---
# The look-up of a page: its value, address, size, area, and whether it may be split (jit.templates).
FIND = re.compile(r"  (%\S+) = (?:tail )?call i64 @find\(i64 (\S+), i64 (\d+), i64 (\d+), i64 (\d+)\)")
READ_SLOT = re.compile(r"^  (%\S+) = load i64, ptr %x(\d+)$", re.M)
STORED = re.compile(r"  store i64 (\S+), ")
STORES = ("  store i64", "  store double")
AT_STATE = re.compile(r"^  (%\S+) = getelementptr inbounds (?:nuw )?i8, ptr %st, i64 (\S+)$")
LOAD = re.compile(r"^  (%\S+) = load i64, ptr (%\S+?)(, .*)?$")
PLAIN_ACCESS = re.compile(r"^  (?:%\S+ = load i64, ptr (%\S+?)|store i64 [^,]+, ptr (%\S+?))(?:, .*)?$")
CHOSEN_OFFSET = re.compile(r"^  (%\S+) = select i1 (\S+), i64 (\d+), i64 (\d+)$")
CHOSEN_POINTER = re.compile(r"^  (%\S+) = select i1 (\S+), ptr (%\S+), ptr (%\S+)$")
TAKES_STATE = "ptr %st,"

# --- what is known ---
VALUE = re.compile(r"^  (%\S+) = (\w+) ?(.*)$")
TWO = re.compile(r"^(?:(?:nuw|nsw|disjoint|exact|samesign) )*(?:(\w+) )?(i1|i64) (\S+), (\S+)$")
CHOICE = re.compile(r"^i1 (true|false), \w+ (\S+), \w+ (\S+)$")
BRANCH = re.compile(r"^  br i1 (true|false), label %(\S+), label %([-{}\w.$]+).*$")
SWITCH = re.compile(r"^  switch i64 (-?\d+), label %(\S+) \[(.*)\]$")
CASE = re.compile(r"i64 (-?\d+), label %([-{}\w.$]+)")
TARGET = re.compile(r"label %([-{}\w.$]+)")

# --- numbers ---
BITS = re.compile(r"  (%\S+) = bitcast double (%\S+) to i64$")
JOINED = re.compile(r"  (%\S+) = phi i64 (.*)$")
WAY = re.compile(r"\[ (\S+), (%\S+) \]")
BINARY = re.compile(r"  (%\S+) = (fadd|fsub|fmul|fdiv) (double|float) (\S+), (\S+)$")
CONVERSION = re.compile(r"  (%\S+) = (sitofp|uitofp|fptosi|fptrunc) (?:nneg )?(\w+) (\S+) to (\w+)$")
FLOAT_CALL = re.compile(r"  (%\S+) = (?:tail )?call (double|float) @llvm\.(fma|sqrt)\.f\d\d\((.*)\)$")

# --- what LLVM printed, of a template ---
MARKED_READ = re.compile(r"  (%\S+) = (?:tail )?call i64 @read\.([xf])\(i64 (?:noundef )?(\{\w+\}|\d+)\)$")
MARKED_WRITE = re.compile(
    r"  (?:tail )?call void @write\.([xf])\(i64 (?:noundef )?(\{\w+\}|\d+), i64 (?:noundef )?(\S+)\)$"
)
MARKED_GO = re.compile(r"  (?:tail )?call void @go\.(on|out|to)\((?:i64 (?:noundef )?(\S+))?\)$")


def one_line_switches(text: str) -> str:
    """A text whose switches are lines."""
    return re.sub(r"\[\n((?:    .*\n)+)  \]", lambda m: f"[{m[1].replace(chr(10), ' ')}]", text)


def accessed_at(line: str, pointer: str, slot: str) -> str:
    """A load or store of a pointer as one of a slot."""
    return line[: line.index(f"ptr {pointer}")] + f"ptr {slot}"


def called_through(line: str, name: str, function: str, more: str, *, convention: str = "") -> str:
    """A call of a cold function as one through a pointer, of another convention where one is given."""
    line = line.replace(f"@p.{name}(", f"{function}(")
    return (line.replace("tail call i64", f"call {convention} i64") if convention else line) + more


# --- names ---
_DEFINED = re.compile(r"^(?:  %([-\w.$]+) = .*|([-\w.$]+):)$", re.M)
_LOCAL = re.compile(r"(?:%|^(?=[-\w.$]+:$))([-\w.$]+)", re.M)


def renamed(lines: list[str], *, suffix: str = ".q", keep: str = "") -> list[str]:
    """The same text with other names for what it defines, values and labels, but one."""
    text = "\n".join(lines)
    own = {value or label for value, label in _DEFINED.findall(text)} - {keep}
    return _LOCAL.sub(lambda m: f"{m[0]}{suffix}" if m[1] in own else m[0], text).split("\n")
