"""The native engine: runs the compiled image and serves what native code asks of Python."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from trapline.dataclass import dataclass
from trapline.engine import perf_map
from trapline.engine.cache import load_image
from trapline.engine.code import PAGE, CodeStore
from trapline.engine.compiler_names import plain_index, step_index
from trapline.engine.jit.area import CODE_BYTES
from trapline.engine.jit.tier import Tier
from trapline.engine.records import TLB_BYTES, NativeExit
from trapline.engine.reference import ReferenceEngine
from trapline.engine.stop_points import Stops
from trapline.engine.stop_records import StopRecords
from trapline.isa.decode import Decoder
from trapline.lang.control import ATTENTION_LEAVE, EXIT_BREAK, EXIT_STOP, SERVE_CODE
from trapline.lang.devices import DeviceState, Registers
from trapline.lang.functions import Trap
from trapline.lang.host_pages import anonymous
from trapline.lang.state import subset_arguments
from trapline.lang.state.words import LAYOUT, STEP_SLOTS
from trapline.lang.values import U64

if TYPE_CHECKING:
    from trapline.engine.link import Image
    from trapline.lang.state import Hart

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, *[ctypes.c_uint64] * 4)
_STEPS = LAYOUT.fields["step_record"].index
_CALL_FAILED = LAYOUT.fields["call_failed"].index
_TRAP_WORDS = tuple(LAYOUT.fields[f"trap_{name}"].index for name in ("cause", "tval", "tval2", "tinst", "gva"))
_NOT_COMPILED = object()

_image: tuple[Image, int, mmap.mmap] | None = None


def _loaded(progress: Callable[[str], None]) -> tuple[dict[str, int], mmap.mmap]:
    """Map the image once a process; return the addresses of its symbols."""
    global _image
    if _image is None:
        image = load_image(progress)
        memory = anonymous(len(image.code) + PAGE, executable=True)
        memory[: len(image.code)] = image.code
        perf_map.add_image(image.symbols, ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(image.code))
        _image = image, ctypes.addressof(ctypes.c_char.from_buffer(memory)), memory
    image, base, memory = _image
    return {name: base + offset for name, offset in image.symbols.items()}, memory


def tier_of(mode: str, code: CodeStore, symbols: dict[str, int], area_bytes: int) -> Tier | None:
    """The second tier in a mode of NativeEngine's `jit`, with memory of this size for regions."""
    if mode not in ("on", "fresh", "off", "force"):
        raise ValueError(f"TRAPLINE_JIT is on, fresh, off or force, not {mode!r}")
    if mode == "off":
        return None
    return Tier(code, symbols, forced=mode == "force", keep=mode == "on", area_bytes=area_bytes)


@dataclass(frozen=True, slots=True)
class Infos:
    """The info words of a memory region: where they are, and whose memory it is, which lives as long as its code."""

    at: int
    words: mmap.mmap
    owner: Any


ANSWERS = 1024  # of devices in Python between two calls of `on_asked`: some 50 ms


class NativeEngine:
    """Runs harts of one machine natively.

    `progress` is told when the image has to be compiled first. `jit` says when regions are compiled: "on", where code
    is hot, beside the guest; "fresh", the same without those that earlier runs kept; "off"; or "force", every block
    before it first runs (for tests: slow). Only "on" keeps anything. Without it, TRAPLINE_JIT decides. `area_bytes`
    is the size of the memory for regions.
    """

    name = "native"
    turn = 2_000_000
    compiles = True

    def __init__(
        self,
        progress: Callable[[str], None] = lambda text: None,
        *,
        jit: str | None = None,
        area_bytes: int = CODE_BYTES,
    ) -> None:
        self.symbols, _ = _loaded(progress)
        self.code = CodeStore(self.symbols, step_index())
        self.tier = tier_of(jit or os.environ.get("TRAPLINE_JIT", "on"), self.code, self.symbols, area_bytes)
        self.reference = ReferenceEngine()
        self.stops: Stops = self.reference.stops
        self.stops.records = self.stop_records = StopRecords(self.stops, self.code)
        self._harts: list[Hart] = []
        self._keep: dict[int, list[Any]] = {}
        self._infos: dict[tuple[int, int], Infos] = {}
        self._failure: BaseException | None = None
        self.on_asked: Callable[[], None] = lambda: None
        self._answers = 0
        self._calls: dict[str, Any] = {}
        self._exported: dict[Callable[..., Any], Any] = {}
        self._words = {name: f.index for name, f in LAYOUT.fields.items()}

    def attach(self, hart: Hart) -> None:
        """Prepare a hart whose extensions and memory regions are configured; again when they change."""
        self._allocate(hart)
        self.regions_changed(hart)
        decoder = Decoder(hart)
        if self.code.decoder is None or self.code.decoder.enabled != decoder.enabled:
            self.code.set_decoder(decoder)
        self.reference.attach(hart, decoder)
        for known in self._harts:
            known.decode_base = 0 if self.tier is not None and self.tier.forced else self.code.table
        if self.tier is not None:
            self.tier.attach(hart)
            hart.jit_waits = int(not self.tier.started)
        hart.call = partial(self.call, hart)  # type: ignore[method-assign]
        flush: Any = partial(self._plain, "c.flush_all_sets", hart)
        hart.on_flush_translations = flush  # type: ignore[method-assign]
        flush_page: Any = partial(self._plain, "c.flush_page_sets", hart)
        hart.on_flush_page = flush_page  # type: ignore[method-assign]
        hart.on_store = self.code_written  # type: ignore[method-assign]

    def notes(self) -> list[str]:
        """What the user should know of a run: that hot code was not compiled, and why."""
        failure = None if self.tier is None else self.tier.failure
        if failure is None:
            return []
        said = f"{type(failure).__name__}: {failure}".rstrip(": ")
        return [f"hot code was not compiled everywhere, so this run was slower; its results are right ({said})"]

    def _allocate(self, hart: Hart) -> None:
        if id(hart) in self._keep:
            return
        sets = anonymous(TLB_BYTES)
        hart.tlb_base = ctypes.addressof(ctypes.c_char.from_buffer(sets))
        hart.tlb_ptr = 0
        callbacks = [
            CALLBACK(self._guard(hart, partial(self._device_load, hart))),
            CALLBACK(self._guard(hart, partial(self._device_store, hart))),
            CALLBACK(self._guard(hart, self._forget_code)),
            CALLBACK(self._guard(hart, lambda *_: hart.on_transform())),
            CALLBACK(self._guard(hart, lambda gpa, how, data, _: hart.on_mmio(gpa, how, data))),
            CALLBACK(self._guard(hart, lambda io, what, value, _: DeviceState.at[io].ask(what, value))),
            CALLBACK(self._guard(hart, self._arm_code)),
            CALLBACK(self._guard(hart, lambda what, *_: self._serve(hart, what))),
        ]  # fmt: skip
        names = "device_load", "device_store", "forget_code", "transform", "mmio", "host", "arm_code", "serve"
        for name, callback in zip(names, callbacks, strict=True):
            setattr(hart, f"fn_{name}", ctypes.cast(callback, ctypes.c_void_p).value or 0)
        for slot in range(STEP_SLOTS + 2):
            hart.step_record[slot * 2] = self.symbols["h.step_end"]
        for (name, length), number in step_index().items():
            hart.step_handlers[number] = self.symbols.get(f"h.{name}_{length}", 0)
        for name, number in plain_index().items():
            hart.step_handlers[number] = self.symbols.get(f"h.{name}", 0)
        self.stop_records.twins = [int(hart.step_handlers[n]) for n in range(len(hart.step_handlers))]
        hart.far_place = hart.address + LAYOUT.fields["far_value"].index * 8
        hart.fn_memset = ctypes.cast(ctypes.CDLL(None).memset, ctypes.c_void_p).value or 0
        hart.fn_memcpy = ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value or 0
        self._keep[id(hart)] = [sets, callbacks]
        if self._harts:
            self._harts[-1].next_hart = hart.address
        hart.next_hart = hart.offers = 0
        self._harts.append(hart)
        self.code.first_hart = self._harts[0].address

    def _device(self, hart: Hart, region: int) -> Any:
        self._answers += 1
        if self._answers % ANSWERS == 0:
            self.on_asked()
        return hart.devices[region]

    def _device_load(self, hart: Hart, region: int, offset: int, size: int, _: int) -> Any:
        return self._device(hart, region).load(hart, offset, size)

    def _device_store(self, hart: Hart, region: int, offset: int, size: int, value: int) -> int:
        self._device(hart, region).store(hart, offset, size, value & (1 << size * 8) - 1)
        return 0

    def _guard(self, hart: Hart, action: Callable[..., Any]) -> Callable[..., int]:
        """An exception in a callback stops native code and is raised by run()."""

        def call(_: int, a: int, b: int, c: int, d: int) -> int:
            try:
                return int(action(a, b, c, d) or 0) & 0xFFFF_FFFF_FFFF_FFFF
            except BaseException as error:
                self._failure = error
                hart.exit_reason = EXIT_STOP
                hart.attention = hart.attention | ATTENTION_LEAVE
                return 0

        return call

    def regions_changed(self, hart: Hart) -> None:
        """Give every memory region its page infos and forget all translations."""
        for i in range(int(hart.region_count)):
            found = self.registers_of(hart.devices.get(i))
            hart.region_io[i], hart.region_load[i], hart.region_store[i], hart.region_calm[i] = found
            host, base, size = (int(a[i]) for a in (hart.region_host, hart.region_base, hart.region_size))
            if host == 0:
                hart.region_info[i] = 0
                continue
            key = (host - (base & (PAGE - 1)), size)
            if key not in self._infos:
                words = anonymous((size // PAGE + 2) * 8)
                owner = hart.backings[i] if i < len(hart.backings) else None
                self._infos[key] = Infos(ctypes.addressof(ctypes.c_char.from_buffer(words)), words, owner)
            hart.region_info[i] = self._infos[key].at
        used = {int(other.region_info[i]) for other in self._harts for i in range(int(other.region_count))}
        self._infos = {key: infos for key, infos in self._infos.items() if infos.at in used}
        self.code.size_for(sum(len(infos.words) // 8 for infos in self._infos.values()))
        self.code.keep([range(infos.at, infos.at + len(infos.words)) for infos in self._infos.values()])
        self._plain("c.flush_all_sets", hart)

    def registers_of(self, device: object) -> tuple[int, int, int, int]:
        """Host addresses of a device's state and its functions (engine.api)."""
        if not isinstance(device, Registers):
            return 0, 0, 0, 0
        kind = type(device)
        load, store = (self.symbols[f"c.{function.__name__}"] for function in (kind.on_load, kind.on_store))
        calm = 1 if kind.on_calm is None else self.symbols[f"c.{kind.on_calm.__name__}"]
        return int(device.io), load, store, calm

    def infos_at(self, host: int, size: int) -> int:
        """Host address of the info words of the memory at a host address, 0: it has none."""
        infos = self._infos.get((host, size))
        return 0 if infos is None else infos.at

    def _page_of(self, info: int) -> tuple[int, Any]:
        """Host address of the page that an info word describes, and who owns its memory."""
        for (host, _), infos in self._infos.items():
            if infos.at <= info < infos.at + len(infos.words):
                return host + (info - infos.at) // 8 * PAGE, infos.owner
        raise LookupError("no page for this info word")

    def code_written(self, host: int, size: int) -> None:
        """Bytes at a host address are changed, but not by native code: forget what was decoded from them."""
        for (start, length), infos in self._infos.items():
            first, end = max(host, start) - start, min(host + size, start + length) - start
            for number in range(first // PAGE, (end - 1) // PAGE + 1):
                page = self.code.by_info.get(infos.at + 8 * number)
                if page is not None:
                    self._empty_steps()
                    self.code.change(page, max(first - number * PAGE, 0), min(end - number * PAGE, PAGE))

    def _forget_code(self, table: int, offset: int, size: int, _: int) -> None:
        """Native code changes bytes that regions are made from, or wants to have a page's code forgotten."""
        self._empty_steps()
        self.code.change(self.code.by_table[table], offset, offset + size)

    def _empty_steps(self) -> None:
        """Copies of records (h.step) are not what memory holds any more."""
        for hart in self._harts:
            for slot in range(STEP_SLOTS):
                hart.mem[_STEPS + 2 * slot] = hart.mem[_STEPS + 2 * STEP_SLOTS]

    def _arm_code(self, table: int, va: int, *_: int) -> None:
        """Native code is about to run in a page, or has decoded instructions, where stops may be."""
        self.stop_records.found(self.code.by_table[table], va)

    # --- hosted software ---
    def _plain(self, name: str, hart: Hart, *args: int) -> int:
        function = self._calls.get(name)
        if function is None:
            prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * (1 + len(args)))
            function = self._calls[name] = prototype(self.symbols[name])
        return int(function(hart.address, *args))

    def _export(self, function: Callable[..., Any], count: int) -> Any:
        """What calls a subset function natively, or _NOT_COMPILED; arguments are taken modulo 2**64, as ctypes does."""
        address = self.symbols.get(f"c.{function.__name__}")
        if address is None:
            return _NOT_COMPILED
        return ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * (1 + count))(address)

    def call(self, hart: Hart, function: Callable[..., Any], *args: Any) -> Any:
        """Run a subset function for hosted software: natively where it is exported."""
        known = self._exported.get(function)
        if known is None:
            known = self._exported[function] = self._export(function, len(args))
        if known is _NOT_COMPILED:
            return function(hart, *subset_arguments(args))
        mem = hart.mem
        mem[_CALL_FAILED] = 0
        result = known(hart.address, *map(int, args))
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if mem[_CALL_FAILED]:
            raise Trap(*[mem[index] for index in _TRAP_WORDS])
        return U64(result)

    # --- running ---
    def run(self, hart: Hart, limit: int) -> int:
        """Run until `limit` more attempts or another reason to leave (EXIT_*)."""
        if self.stops.changed:
            self.stops.apply()
        reason = self._plain("c.run_hart", hart, limit)
        self.raise_failure()
        return reason

    def call_turns(self, function: Callable[..., Any], hart: Hart, *args: Any) -> None:
        """Call a compiled function that runs harts by itself (lang.control.run_engine)."""
        if self.stops.changed:
            self.stops.apply()
        self._plain(f"c.{function.__name__}", hart, *[int(a) for a in args])
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what a callback of native code could not."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _serve(self, hart: Hart, what: int) -> int:
        """What native code asks of Python (engine.running); 0: go on, else the reason to leave."""
        if what == SERVE_CODE:
            self._look_after_code(hart)
            return 0
        mem, words = hart.mem, self._words
        reason = mem[words["native_exit"]]
        if reason == NativeExit.UNDECODED:
            self._decode(hart)
        elif reason == NativeExit.STOPPED:
            return EXIT_BREAK
        elif reason == NativeExit.NEW_PAGE:
            self._new_page(mem[words["fetch_uncached"]])
        elif reason == NativeExit.STRADDLE:
            self.code.decode_straddle(self.code.by_table[mem[words["code_table"]]], mem[words["insn"]])
        elif self._slow_step(hart):
            return int(hart.exit_reason)
        return 0

    def _look_after_code(self, hart: Hart) -> None:
        tier = self.tier
        if tier is None:
            return
        if hart.jit_full != 0:
            tier.flush()
        if not tier.started:
            tier.start()
            for known in self._harts:
                known.jit_waits = 0

    def _decode(self, hart: Hart) -> None:
        """Decode from pc on, in Python: regions are forced, or the code is new to native code."""
        page, offset = self.code.by_table[int(hart.code_table)], int(hart.pc) & (PAGE - 1)
        self.code.decode_block(page, offset)
        self.stop_records.arm(page)
        tier = self.tier
        if tier is not None and tier.forced:
            self._look_after_code(hart)
            mode = int(hart.priv) | int(hart.virt) << 2
            tier.heat.places[page.table + offset * 8] = hart, int(hart.pc), mode
            tier.make(page.table + offset * 8)

    def _new_page(self, info: int) -> None:
        if self.code.make_room():
            for other in self._harts:
                self._plain("c.flush_all_sets", other)
        self.code.new_page(info, *self._page_of(info))

    def _slow_step(self, hart: Hart) -> bool:
        """One instruction from a page that cannot be cached, by the reference engine."""
        if hart.stops_base != 0 and self.stops.before(hart):
            hart.exit_reason = EXIT_BREAK
            return True
        self.reference.step(hart)
        leaving = hart.attention & ATTENTION_LEAVE != 0
        hart.attention = 0
        return bool(leaving)

    def step(self, hart: Hart) -> int:
        """Run one attempt."""
        return self.run(hart, 1)
