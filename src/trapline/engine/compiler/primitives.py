"""The closed list of primitives, as LLVM."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.engine.compiler.source import VOID, B, D, S, SubsetError, U
from trapline.engine.compiler.text import WROTE
from trapline.engine.llvm import LIKELY, Flag, Operand, Pointer, Word, words
from trapline.lang.control import ATTENTION_LEAVE, ATTENTION_RESUME

if TYPE_CHECKING:
    from trapline.engine.compiler.calls import Calls

Result = tuple[str, str] | None
Lowering = Callable[["Calls", ast.Call], Result]
TABLE: dict[str, Lowering] = {}

INT = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}


def lowering(*names: str) -> Callable[[Lowering], Lowering]:
    """Register the lowering of the primitives called `names`."""

    def register(function: Lowering) -> Lowering:
        for name in names:
            TABLE[name] = function
        return function

    return register


def lower(e: Calls, node: ast.Call, target: Any) -> Result:
    """Emit the call of a primitive."""
    name = target.__name__
    e.module.touch(name)
    if name.startswith("host_f"):
        return _host_float(e, node, name)
    if name not in TABLE:
        raise SubsetError(f"line {node.lineno}: primitive {name!r} has no lowering: {ast.unparse(node)}")
    return TABLE[name](e, node)


def literal(e: Calls, node: ast.expr) -> int:
    number = e.constant(node)
    if number is None:
        raise e.error(node, "must be a literal")
    return number


def of_hart(*given: Operand) -> str:
    """Arguments that are the hart and words."""
    return f"ptr %hart, {words(*given)}" if given else "ptr %hart"


def _words(e: Calls, node: ast.Call) -> list[Word]:
    return [e.as_word(a) for a in node.args]


@lowering("signed")
def _signed(e: Calls, node: ast.Call) -> Result:
    return e.as_word(node.args[0]), S


@lowering("unsigned")
def _unsigned(e: Calls, node: ast.Call) -> Result:
    value, type_ = e.expression(node.args[0], S)
    if type_ != S:
        raise e.error(node, "unsigned() takes an S64")
    return value, U


@lowering("u64")
def _u64(e: Calls, node: ast.Call) -> Result:
    value, type_ = e.expression(node.args[0])
    if type_ != B:
        raise e.error(node, "u64() takes a bool")
    return e.widen(value), U


@lowering("sext", "zext")
def _extend(e: Calls, node: ast.Call) -> Result:
    name = e.resolve(node.func).__name__
    value, bits = e.as_word(node.args[0]), literal(e, node.args[1])
    if bits == 64:
        return value, U
    return e.widen(e.narrow(value, f"i{bits}"), f"i{bits}", name), U


@lowering("bit")
def _bit(e: Calls, node: ast.Call) -> Result:
    value, number = _words(e, node)
    return e.narrow(e.lshr(value, number), "i1"), B


@lowering("mulhu", "mulh", "mulhsu")
def _multiply_high(e: Calls, node: ast.Call) -> Result:
    name = e.resolve(node.func).__name__
    a, b = _words(e, node)
    first = "zext" if name == "mulhu" else "sext"
    second = "sext" if name == "mulh" else "zext"
    wide_a, wide_b = e.convert(first, "i64", str(a), "i128"), e.convert(second, "i64", str(b), "i128")
    high = e.operate("lshr", "i128", e.operate("mul", "i128", wide_a, wide_b), "64")
    return e.convert("trunc", "i128", high, "i64"), U


@lowering("udiv", "urem")
def _unsigned_division(e: Calls, node: ast.Call) -> Result:
    name = e.resolve(node.func).__name__
    a, b = _words(e, node)
    return e.binary(name, a, b), U


@lowering("sdiv", "srem")
def _signed_division(e: Calls, node: ast.Call) -> Result:
    name = e.resolve(node.func).__name__
    operands = [e.expression(a, S) for a in node.args]
    if any(t != S for _, t in operands):
        raise e.error(node, "takes S64")
    return e.binary(name, Word(operands[0][0]), Word(operands[1][0])), S


@lowering("clz", "ctz")
def _count_zeros(e: Calls, node: ast.Call) -> Result:
    name = e.resolve(node.func).__name__
    name = {"clz": "ctlz", "ctz": "cttz"}[name]
    return e.call(e.named(f"llvm.{name}.i64"), "i64", f"{words(e.as_word(node.args[0]))}, i1 false", convention=""), U


@lowering("popcount", "byte_reverse")
def _bits(e: Calls, node: ast.Call) -> Result:
    name = e.resolve(node.func).__name__
    name = {"popcount": "ctpop", "byte_reverse": "bswap"}[name]
    return e.intrinsic(name, e.as_word(node.args[0])), U


@lowering("host_load")
def _host_load(e: Calls, node: ast.Call) -> Result:
    address, size = e.as_word(node.args[0]), literal(e, node.args[1])
    pointer = e.pointer(address)
    return load_bytes(e, pointer, size), U


def load_bytes(e: Calls, place: Pointer, size: int) -> Word:
    """Load little-endian bytes, zero-extended."""
    value = e.load_as(INT[size], place, 1)
    return Word(value) if size == 8 else e.widen(value, INT[size])


@lowering("host_store")
def _host_store(e: Calls, node: ast.Call) -> Result:
    address, size, value = e.as_word(node.args[0]), literal(e, node.args[1]), e.as_word(node.args[2])
    store_bytes(e, e.pointer(address), size, value)
    e.wrote |= WROTE
    return None


def store_bytes(e: Calls, place: Pointer, size: int, word: Operand) -> None:
    """Store the low bytes of a word."""
    value = word if size == 8 else e.narrow(word, INT[size])
    e.store_as(INT[size], value, place, 1)


@lowering("jump")
def _jump(e: Calls, node: ast.Call) -> Result:
    target = e.as_word(node.args[1])
    e.jumps = True
    if e.fast:
        e.write(target, "%np")
        e.write("true", "%jumped", "i1")
    else:
        e.store(target, e.field_pointer("next_pc"))
    return None


@lowering("give_up_unless")
def _give_up_unless(e: Calls, node: ast.Call) -> Result:
    match node.args[0]:
        case ast.Name(id=name) if name in e.locals and e.depth == 0:
            pass
        case _:
            raise e.error(node, "give_up_unless() takes a local, and stands at the function's own level")
    if e.fast:
        holds, _ = e.expression(node.args[0])
        on, out = e.label(), e.label()
        e.branch(Flag(holds), on, out, LIKELY)
        e.place_label(out)
        e.fail()
        e.place_label(on)
        e.known = {**e.known, name: 1}
    return None


def _attention(e: Calls, flag: int) -> None:
    pointer = e.field_pointer("attention")
    old = e.load(pointer)
    e.store(e.either(old, flag), pointer)


@lowering("leave")
def _leave(e: Calls, node: ast.Call) -> Result:
    reason = e.as_word(node.args[1])
    e.store(reason, e.field_pointer("exit_reason"))
    _attention(e, ATTENTION_LEAVE)
    return None


def _helper(e: Calls, name: str, *args: Operand) -> str:
    function = e.module.engine_function(name)
    compiled = e.module.function(function)
    return e.call(e.named(compiled.symbol), compiled.result_type(), of_hart(*args))


@lowering("flush_translations")
def _flush_translations(e: Calls, node: ast.Call) -> Result:
    _helper(e, "flush_all_sets")
    _attention(e, ATTENTION_RESUME)
    return None


@lowering("flush_page")
def _flush_page(e: Calls, node: ast.Call) -> Result:
    _helper(e, "flush_page_sets", e.as_word(node.args[1]))
    _attention(e, ATTENTION_RESUME)
    return None


@lowering("cache_translation")
def _cache_translation(e: Calls, node: ast.Call) -> Result:
    _helper(e, "fill_translation", *[e.as_word(a) for a in node.args[1:]])
    return None


@lowering("note_trap", "note_return", "note_access", "note_split", "note_atomic")
def _by_engine(e: Calls, node: ast.Call) -> Result:
    _helper(e, e.resolve(node.func).__name__, *[e.as_word(a) for a in node.args[1:]])
    return None


@lowering("note_store")
def _note_store(e: Calls, node: ast.Call) -> Result:
    _helper(e, "bytes_stored", *[e.as_word(a) for a in node.args[1:]])
    return None


@lowering("forget_code")
def _forget_code(e: Calls, node: ast.Call) -> Result:
    _callback(e, "fn_forget_code", [e.as_word(a) for a in node.args[1:]])
    return None


@lowering("arm_code")
def _arm_code(e: Calls, node: ast.Call) -> Result:
    _callback(e, "fn_arm_code", [e.as_word(a) for a in node.args[1:]])
    return None


def _callback(e: Calls, field: str, args: list[Word]) -> Word:
    pointer = e.load_pointer(e.field_pointer(field))
    four: list[Operand] = [*args, 0, 0, 0, 0]
    return Word(e.call(pointer, "i64", of_hart(*four[:4]), convention=""))


def _of_region(e: Calls, field: str, region: Word) -> Word:
    place = e.item(e.field_pointer(field), region)
    return e.load(place)


def _device(e: Calls, node: ast.Call, own: str, other: str) -> str:
    """Call the native function of the device behind a region, or Python's where it has none."""
    region, *args = [e.as_word(a) for a in node.args[1:]]
    function = _of_region(e, own, region)
    native, python, done, slot = e.label(), e.label(), e.label(), e.slot(U)
    e.branch(e.compare("ne", function, 0), native, python)
    e.place_label(native)
    given = of_hart(_of_region(e, "region_io", region), *args)
    answer = e.call(e.pointer(function), "i64", given, convention="")
    e.write(answer, slot)
    e.goto(done)
    e.place_label(python)
    e.write(_callback(e, other, [region, *args]), slot)
    e.goto(done)
    e.place_label(done)
    return e.read(slot)


@lowering("device_load")
def _device_load(e: Calls, node: ast.Call) -> Result:
    return _device(e, node, "region_load", "fn_device_load"), U


@lowering("device_store")
def _device_store(e: Calls, node: ast.Call) -> Result:
    _device(e, node, "region_store", "fn_device_store")
    return None


@lowering("ask_host")
def _ask_host(e: Calls, node: ast.Call) -> Result:
    state, type_ = e.expression(node.args[1])
    if type_ != D:
        raise e.error(node, "the second argument is the state of devices")
    _callback(e, "fn_host", [Word(state), *[e.as_word(a) for a in node.args[2:]]])
    return None


@lowering("call_registers")
def _call_registers(e: Calls, node: ast.Call) -> Result:
    function, *args = [e.as_word(a) for a in node.args[1:]]
    e.wrote |= WROTE
    return e.call(e.pointer(function), "i64", of_hart(*args), convention=""), U


@lowering("on_hart")
def _on_hart(e: Calls, node: ast.Call) -> Result:
    target = e.resolve(node.args[1])
    compiled = e.module.function(target)
    if compiled.may_fail or compiled.returns != VOID:
        raise e.error(node, "on_hart() takes a function that gives no value and cannot trap")
    e.call(e.named(compiled.symbol), "void", _for_other(e, node, target))
    e.wrote |= compiled.writes
    return None


@lowering("traps_on_hart")
def _traps_on_hart(e: Calls, node: ast.Call) -> Result:
    target = e.resolve(node.args[1])
    compiled = e.module.function(target)
    if not compiled.may_fail or compiled.returns != VOID:
        raise e.error(node, "traps_on_hart() takes a function that gives no value and can trap")
    e.wrote |= compiled.writes
    return e.call(e.named(compiled.symbol), "i1", _for_other(e, node, target)), B


def _for_other(e: Calls, node: ast.Call, target: Any) -> str:
    """The arguments of a call on another hart, whose host address is the first."""
    other = e.pointer(e.as_word(node.args[0]))
    call = ast.copy_location(ast.Call(node.args[1], [ast.Constant(0), *node.args[2:]], []), node)
    given = e.arguments(ast.fix_missing_locations(call), target, {})
    return ", ".join([f"ptr {other}", *given[1:]])


@lowering("attempt")
def _attempt(e: Calls, node: ast.Call) -> Result:
    target = e.resolve(node.args[1])
    if e.fast:
        raise e.error(node, "attempt() is for hosted software")
    compiled = e.module.function(target)
    call = ast.copy_location(ast.Call(node.args[1], [ast.Constant(0), *node.args[2:]], []), node)
    args = ", ".join(e.arguments(ast.fix_missing_locations(call), target, {}))
    e.wrote |= compiled.writes | WROTE
    if not compiled.may_fail:
        raise e.error(node, f"{compiled.symbol} cannot trap")
    result = e.call(e.named(compiled.symbol), compiled.result_type(), args)
    if compiled.returns == VOID:
        return result, B
    value = e.part(0, compiled.result_type(), result)
    e.store(Word(value), e.field_pointer("attempted"))
    return e.part(1, compiled.result_type(), result), B


@lowering("user_mmio")
def _user_mmio(e: Calls, node: ast.Call) -> Result:
    return _callback(e, "fn_mmio", [e.as_word(a) for a in node.args[1:]]), U


@lowering("call_action")
def _call_action(e: Calls, node: ast.Call) -> Result:
    pointer = e.pointer(e.as_word(node.args[1]))
    e.wrote |= WROTE
    return e.call(pointer, "i64", of_hart(), convention=""), U


@lowering("run_engine")
def _run_engine(e: Calls, node: ast.Call) -> Result:
    e.wrote |= WROTE
    return _helper(e, "run_hart", e.as_word(node.args[1])), U


@lowering("enter_code")
def _enter_code(e: Calls, node: ast.Call) -> Result:
    e.call(e.named("run"), "void", of_hart(e.as_word(node.args[1])), convention="")
    e.wrote |= WROTE
    return None


@lowering("serve_run")
def _serve_run(e: Calls, node: ast.Call) -> Result:
    e.wrote |= WROTE
    return _callback(e, "fn_serve", [e.as_word(node.args[1])]), U


@lowering("transformed_instruction")
def _transformed_instruction(e: Calls, node: ast.Call) -> Result:
    return _callback(e, "fn_transform", []), U


@lowering("instruction_bits")
def _instruction_bits(e: Calls, node: ast.Call) -> Result:
    return _helper(e, "bits_at_pc"), U


@lowering("fill_ones")
def _fill_ones(e: Calls, node: ast.Call) -> Result:
    address, size = _words(e, node)
    pointer = e.load_pointer(e.field_pointer("fn_memset"))
    place = e.pointer(address)
    e.call(pointer, "void", f"ptr {place}, i32 255, i64 {size}", convention="")
    return None


@lowering("copy_bytes")
def _copy_bytes(e: Calls, node: ast.Call) -> Result:
    to, source, size = [e.as_word(a) for a in node.args[1:]]
    pointer = e.load_pointer(e.field_pointer("fn_memcpy"))
    places = [e.pointer(word) for word in (to, source)]
    e.call(pointer, "void", f"ptr {places[0]}, ptr {places[1]}, i64 {size}", convention="")
    return None


FLOATS = {"f64": ("double", "i64"), "f32": ("float", "i32")}
ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
COMPARISONS = {"ordered": "ord", "eq": "oeq", "lt": "olt", "le": "ole"}


def _host_number(e: Calls, word: Word, width: str) -> str:
    """A number of the host from its bits."""
    if width == "f32":
        return e.convert("bitcast", "i32", e.narrow(word, "i32"), "float")
    return e.number(word)


def _host_float(e: Calls, node: ast.Call, name: str) -> Result:
    _, width, op = name.split("_", 2)
    type_, int_ = FLOATS[width]
    words = _words(e, node)
    if op in ("from_i64", "from_u64"):
        result = e.convert("sitofp" if op == "from_i64" else "uitofp", "i64", words[0], type_)
    elif op.startswith("from_f"):
        given = _host_number(e, words[0], op[5:])
        result = e.convert("fptrunc" if width == "f32" else "fpext", FLOATS[op[5:]][0], given, type_)
    else:
        operands = [_host_number(e, word, width) for word in words]
        if op == "to_i64":
            return e.convert("fptosi", type_, operands[0], "i64"), U
        if op in COMPARISONS:
            return e.operate(f"fcmp {COMPARISONS[op]}", type_, *operands), B
        if op in ARITHMETIC:
            result = e.operate(ARITHMETIC[op], type_, *operands)
        elif op == "fma" and not e.module.host_has_fma:
            return "0", U
        elif op in ("sqrt", "fma"):
            given = ", ".join(f"{type_} {o}" for o in operands)
            result = e.call(e.named(f"llvm.{op}.{width}"), type_, given, convention="")
        else:
            raise e.error(node, "host float primitive has no lowering")
    bits = e.convert("bitcast", type_, result, int_)
    return (bits if width == "f64" else e.widen(bits, "i32")), U
