"""The hosted side: the same probes under a preset and a firmware model, seen as the KVM user program sees them."""

from __future__ import annotations

from trapline.conform.port import CSRS as LEVEL_CSRS
from trapline.conform.seen import CSRS, REGISTERS, Seen
from trapline.engine.api import Engine
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.uapi.onereg import CORE, CSR, get_one_reg, reg_id
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry
from trapline.lab.probe.probe import Observation, ProbeError, ProbeVm, records_of
from trapline.lab.settings import Settings

_OWN = "trapline/"


class HostedVm(ProbeVm):
    """A probe VM that keeps what KVM_RUN handed to the VMM."""

    def __init__(
        self, settings: Settings, *, isa: str, engine: str | Engine = "native", only: frozenset[str] | None
    ) -> None:
        self.exits: list[dict[str, int]] = []
        super().__init__(settings, isa=isa, engine=engine, only=only)

    def _serve(self, now: Observation) -> bool:
        if not now.exits:
            self.exits = []
        self.exits.append(self._exit())
        return super()._serve(now)

    def _exit(self) -> dict[str, int]:
        run = self.vcpu.kvm_run
        found = {"reason": int(run.exit_reason)}
        if run.exit_reason is Exit.MMIO:
            found |= {"gpa": run.mmio.phys_addr, "len": run.mmio.length, "write": int(run.mmio.is_write)}
            if run.mmio.is_write:
                found["data"] = run.mmio.data & (1 << 8 * run.mmio.length) - 1
        elif run.exit_reason is Exit.RISCV_SBI:
            found |= {"extension": run.riscv_sbi.extension_id, "function": run.riscv_sbi.function_id}
        elif run.exit_reason is Exit.RISCV_CSR:
            found["csr"] = run.riscv_csr.csr_num
        return found

    def see(self, entry: Entry) -> Seen:
        """Raise one event."""
        self.exits = []
        try:
            now = self.run(entry)
        except ProbeError:
            return Seen(entry.event.id, entry.mode, "no-mark")
        seen = Seen(entry.event.id, entry.mode, now.end or "reached")
        seen.exits = list(self.exits)
        seen.traps = {(t.cause, t.origin, t.destination): t.count for t in now.traps if not t.cause >> 63}
        seen.stats = {n: v for n, v in now.counters.items() if not n.startswith(_OWN)}
        if now.death is not None:
            seen.errno, seen.kernel = now.death.errno, list(now.death.log)
        if now.end == "hung":
            return seen  # the VM is a new one already
        seen.exit_reason = int(self.vcpu.kvm_run.exit_reason)
        seen.log = self._records()
        seen.levels = {name: int(getattr(self.vcpu.hart, name)) for name in LEVEL_CSRS}
        seen.registers = {name: get_one_reg(self.vcpu, reg_id(CORE, n)) for n, name in enumerate(REGISTERS)}
        seen.csrs = {name: get_one_reg(self.vcpu, reg_id(CSR, n)) for n, name in enumerate(CSRS)}
        return seen

    def _records(self) -> list[tuple[int, int, int, int]]:
        return list(records_of(self.vm.read_memory(image.LOG, image.RECORD * 8)))


def run_hosted(
    settings: Settings, isa: str, engine: str | Engine = "native", only: frozenset[str] | None = None
) -> dict[tuple[str, str], Seen]:
    """Raise every event once under a preset and return what was seen by (event, mode)."""
    vm = HostedVm(settings, isa=isa, engine=engine, only=only)
    return {(e.event.id, e.mode): vm.see(e) for e in vm.image.entries}
