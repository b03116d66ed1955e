"""The rules of the house hold for every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "trapline"

# From the ground up: a room imports only itself and rooms below it.
ROOMS = [
    "lang",
    "privilege",
    "isa",
    "engine",
    "session",
    "machine",
    "policies",
    "sbi",
    "firmware",
    "kvm",
    "vmm",
    "gdb",
    "lab",
    "pack",
    "fetch",
    "scale",
    "conform",
    "verify",
    "fuzz",
    "views",
    "cli",
]
# `views` takes the data of `lab` and runs nothing.
LINE_LIMIT = 500


def room_of(module: str) -> str | None:
    """The room that a dotted module name belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "trapline" and parts[1] in ROOMS else None


def imports(path: Path) -> set[str]:
    """Every trapline module that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {name for name in found if name.startswith("trapline.")}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    """No room imports one above it."""
    files = sorted((SOURCE / room).rglob("*.py"))
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in sorted(imports(path))
        if (above := room_of(name)) is not None and above not in allowed
    ]
    assert not wrong


def test_language_needs_no_llvm() -> None:
    """Only the compiler of the engine touches LLVM, and only inside functions that compile."""
    users = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py") if "llvmlite" in p.read_text()}
    assert users <= {"engine/emit.py", "engine/cache.py", "engine/jit/compile.py"}


LLVM_INSTRUCTION = re.compile(
    r"""(?:^|[\n=])\s*(?:
        (?:add|sub|mul|and|or|xor|shl|[al]shr|[us](?:div|rem)|f(?:add|sub|mul|div|neg)|[if]cmp\ \S+|select|load|store|br
        |switch|phi|ret|alloca|trunc|[sz]ext|bitcast|inttoptr|ptrtoint|getelementptr(?:\ inbounds)?|(?:ex|in)\w+value
        |[su]itofp|fpto[su]i|fptrunc|fpext|(?:must|)(?:tail\ )?call(?:\ \w+cc)?|(?:declare|define)(?:\ [\w{}]+)*)
        \ (?:void|ptr|label|float|double|i\d+|\{)
    )""",
    re.VERBOSE,
)


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The strings of a file with their lines; what an f-string puts in stands as {}."""
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


@pytest.mark.parametrize("room", ROOMS)
def test_llvm_is_written_by_one_builder(room: str) -> None:
    """No file spells an instruction of LLVM or a function's head but the builder, and what reads what LLVM printed."""
    both = {SOURCE / "engine" / name for name in ("llvm.py", "llvm_lines.py")}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {found[0].strip()}"
        for path in sorted(set((SOURCE / room).rglob("*.py")) - both)
        for line, text in strings(ast.parse(path.read_text()))
        if (found := LLVM_INSTRUCTION.search(text)) and (room == "engine" or not found[0].endswith("{"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "source",
    [
        'f"br label %{name}"',
        '"  %x = getelementptr inbounds i8, ptr %st, i64 8"',
        'f"  {name} = load i64, ptr {place}"',
        'f"store {type_} {value}, ptr {place}, align 8"',
        'f"musttail call {cc} void {target}()"',
        'f"ret {type_} {value}"',
        'f"define dso_local {convention} void @region({given}) {{"',
        '"declare i64 @find(i64, i64) nounwind"',
    ],
)
def test_an_instruction_of_llvm_is_recognised(source: str) -> None:
    """A string that is an instruction or a head is found, with and without what is put in."""
    assert [text for _, text in strings(ast.parse(source)) if LLVM_INSTRUCTION.search(text)]


def test_harts_and_engines_are_typed() -> None:
    """No parameter and no field called `hart` or `engine` is of type Any."""
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.arg if isinstance(node, ast.arg) else getattr(getattr(node, "target", None), "id", "")
            if name in ("hart", "engine") and "Any" in ast.unparse(getattr(node, "annotation", None) or ast.Pass()):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not wrong


def test_nobody_asks_what_an_engine_has() -> None:
    """What an engine does is in its Protocol: nothing but its face looks for an attribute of one."""
    sniffs = re.compile(r"(?:get|has)attr\((?:type\()?(?:\w+\.)*_?engine\b")
    assert [p.name for p in sorted(SOURCE.rglob("*.py")) if sniffs.search(p.read_text())] == ["api.py"]


def test_files_hold_one_idea() -> None:
    """No source file outgrows its limit, unless it is marked as generated."""
    long = [
        f"{p.relative_to(ROOT)}: {n}"
        for p in [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
        if (n := len((text := p.read_text()).splitlines())) > LINE_LIMIT and "generated" not in text[:300]
    ]
    assert not long


def test_every_test_says_what_it_checks() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not silent


def test_files_speak_of_the_project_alone() -> None:
    """No path of a machine and no unfinished place stands in source or docs."""
    wrong = []
    marks = re.compile(r"(?<![\w.])/(work|root|home)/|\b(TODO|FIXME|XXX|NotImplementedError)\b")
    for folder in ("src", "docs", "guests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".toml", ".S", ".c", ".h") and marks.search(path.read_text()):
                wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


# Words of the engine: how a thing is made to take less time, and not what hardware does.
OF_THE_ENGINE = re.compile(
    r"""(?<!re\.)(?<![a-z])(?:settled|calm|give_?up|quick|fast|slow|speed|cheap|native|compile[rsd]?|engine|interpreter
    |jit|llvm|cpython|inexact_known|host_subnormals|tlb_base|tlb_ptr)(?![a-z])""",
    re.VERBOSE | re.IGNORECASE,
)


@pytest.mark.parametrize("room", ["privilege", "isa"])
def test_the_specification_says_nothing_of_the_engine(room: str) -> None:
    """No name, comment or text in the rooms of the specification has a word of the engine."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in sorted((SOURCE / room).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := OF_THE_ENGINE.search(line))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "line", ["if settled(hart):", "give_up_unless(calm)", "@quick", "hart.tlb_base", "# the engine"]
)
def test_a_word_of_the_engine_is_found(line: str) -> None:
    """Such a word is found as a name, as a part of one, and in a comment."""
    assert OF_THE_ENGINE.search(line)


def test_numbers_of_the_specification_have_one_home() -> None:
    """Causes, fields of CSRs, PTE bits, kinds of memory and SYSTEM's encodings have one home each."""
    homes = dict.fromkeys(("privilege/causes.py", "privilege/fields.py", "privilege/pte.py", "lang/values.py"), "")
    homes["isa/system.py"] = ""
    homes["privilege/protection.py"] = "KIND_"
    # There they are names of chapters.
    assert not second_homes(homes, apart={"pack/exceptions.py", "pack/warl.py"})


def test_the_index_of_a_trap_is_computed_in_one_place() -> None:
    """Nothing but causes.trap_index shifts a code, an origin and a destination into one number."""
    own = re.compile(r"& 31\)?\) << 5")
    found = [p.relative_to(SOURCE).as_posix() for p in sorted(SOURCE.rglob("*.py")) if own.search(p.read_text())]
    assert found == ["privilege/causes.py"]


def test_packed_layouts_have_one_home() -> None:
    """What native code and Python share as words in memory is declared in engine/records.py, and nowhere else."""
    own = ("DATA_", "FETCH_", "RECORD_", "OFFER_", "RANGE_", "HEAD_", "PAIR_", "STEP_", "AT_")
    assert not second_homes(dict.fromkeys(["engine/records.py"], own), apart={"engine/observe/stops.py"})


def second_homes(homes: dict[str, str | tuple[str, ...]], apart: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """Names with these beginnings that a file assigns beside their home."""
    names: dict[str, str] = {}
    for home, prefix in homes.items():
        for name in assigned(SOURCE / home):
            if name.isupper() and name.startswith(prefix):
                names[name] = home
    return [
        f"{path.relative_to(SOURCE)} defines {name}, whose home is {names[plain]}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name in assigned(path)
        if (plain := name.lstrip("_").removeprefix("CAUSE_")) in names
        and path.relative_to(SOURCE).as_posix() not in (names[plain], *apart)
    ]


def test_causes_are_compared_by_name() -> None:
    """Nothing compares a trap's cause with a number, or lists causes by their numbers."""
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith("cause"):
                against = [n for side in node.comparators for n in (side, *getattr(side, "elts", ()))]
                numbers = {n.value for n in against if isinstance(n, ast.Constant)}
                wrong += [f"{path.relative_to(SOURCE)}: {ast.unparse(node)}"] if numbers & set(range(1, 24)) else []
            if isinstance(node, ast.Tuple) and [getattr(e, "value", None) for e in node.elts] == [20, 21, 23]:
                wrong += [f"{path.relative_to(SOURCE)}: {ast.unparse(node)}"]
    assert not wrong


def assigned(path: Path) -> set[str]:
    """The names that a module assigns at its own level."""
    found: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign):
            found |= {n.id for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return found


# Python moves a guest only where that is no exit of the compiled hypervisor's, or what it leaves.
MOVES_A_GUEST = {
    "kvm/uapi/onereg.py": {"_reset_fp", "_set_core"},
    "kvm/vcpu.py": {"reset", "set_pc", "_restore_fp"},
    "kvm/exits/vcpu_insn.py": {"csr_return"},
    "kvm/exits/vcpu_sbi.py": {"sbi_ecall", "sbi_return"},
}


def compiled_names(path: Path) -> set[str]:
    """The functions of a file that are written in the subset for hosted software."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id in ("hosted", "cold", "inline") for d in node.decorator_list)
    }


def moves_a_guest(node: ast.FunctionDef) -> bool:
    """Whether a function writes the guest's saved pc or status itself."""
    return any(
        isinstance(at, ast.Attribute) and isinstance(at.ctx, ast.Store) and at.attr in ("guest_sepc", "guest_sstatus")
        for at in ast.walk(node)
    )


def test_no_exit_is_handled_on_both_sides() -> None:
    """What steps over a guest's instruction or changes its mode is compiled, or is listed as what that leaves."""
    found: dict[str, set[str]] = {}
    for path in [*(SOURCE / "kvm").rglob("*.py"), *(SOURCE / "firmware").rglob("*.py")]:
        compiled = compiled_names(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name not in compiled and moves_a_guest(node):
                found.setdefault(path.relative_to(SOURCE).as_posix(), set()).add(node.name)
    assert found == MOVES_A_GUEST


def test_docs_of_the_house_name_what_exists() -> None:
    """Each file that these pages name is there, and defines what they say stands in it."""
    named = re.compile(r"`([\w./]+\.(?:py|toml))(?:: (\w+))?`")
    files = {p.relative_to(SOURCE).as_posix(): p for p in SOURCE.rglob("*") if p.suffix in (".py", ".toml")}
    wrong = []
    for page in ("architecture", "reading-guide", "engines", "regions", "turns", "guest-memory", "subset", "style"):
        for name, function in named.findall((ROOT / "docs" / f"{page}.md").read_text()):
            found = [path for at, path in files.items() if f"/{at}".endswith(f"/{name}")]
            found += [ROOT / name] if (ROOT / name).is_file() else []
            if not any(not function or re.search(rf"(def|class) {function}\b", p.read_text()) for p in found):
                wrong.append(f"{page}: {name} {function}")
    assert not wrong
