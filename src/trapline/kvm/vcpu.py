"""A virtual CPU: its state while it is out, loading and putting it, and the KVM_RUN loop (vcpu.c).

Each vCPU has a hart of its own. The general registers stay in the hart; VS-level CSRs are written
when the vCPU is loaded and read back when something asks for them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from trapline.engine.observe.trace import is_much_unread
from trapline.engine.stop_points import hosted_then
from trapline.firmware import outcome as firmware_outcome
from trapline.firmware.cost import firmware_events
from trapline.isa.decode import Decoder
from trapline.kvm import interrupts, vcpu_state
from trapline.kvm.aia.aia import VcpuAia
from trapline.kvm.entry import enter_vcpu, slice_left, spend_pauses, spend_time
from trapline.kvm.exits.mmio import mmio_return
from trapline.kvm.exits.native_exit import GO_ON, begin_exit, hosted_exit
from trapline.kvm.exits.native_setup import allow_exits, collect, prepare, refresh_actions, refresh_flags
from trapline.kvm.exits.vcpu_exit import vcpu_exit
from trapline.kvm.exits.vcpu_insn import csr_return
from trapline.kvm.exits.vcpu_sbi import VcpuSbi, sbi_return
from trapline.kvm.halts import waited, woke
from trapline.kvm.nested.exits import nested_wakes
from trapline.kvm.nested.setup import NestedHart
from trapline.kvm.report.death import Death, autopsy
from trapline.kvm.report.trace import origin_of
from trapline.kvm.run_stop import RunStop
from trapline.kvm.switch import load_csrs, load_host, load_trap_csrs, preempt, save_guest
from trapline.kvm.timer import VcpuTimer
from trapline.kvm.turns import stalls
from trapline.kvm.uapi.context import GUEST_CSRS, CpuTrap, GuestCsrs, KvmRun, VcpuConfig
from trapline.kvm.uapi.isa_ext import host_has, withheld
from trapline.kvm.uapi.numbers import (
    EINVAL,
    IRQ_VS_EXT,
    KVM_GUESTDBG_ENABLE,
    KVM_INTERRUPT_SET,
    KVM_INTERRUPT_UNSET,
    Exit,
    MpState,
)
from trapline.kvm.uapi.stats import VcpuStats
from trapline.kvm.uapi.stats_fd import stats_file, vcpu_descriptors
from trapline.kvm.uapi.vcpu_config import configure
from trapline.kvm.vcpu_traps import VcpuTraps
from trapline.lang.control import EXIT_BREAK, EXIT_HOSTED_HS, EXIT_HOSTED_M, EXIT_STOP, EXIT_TIMER, EXIT_WFI
from trapline.lang.given import Named
from trapline.lang.state import Hart
from trapline.machine.devices.clint import time_of
from trapline.policies import CauseRule, Policy
from trapline.privilege import csr_numbers as csr
from trapline.privilege.causes import ECALL_VS, GUEST_PAGE_FAULTS
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import (
    ENVCFG_STCE,
    HSTATUS_SPV,
    HSTATUS_SPVP,
    HSTATUS_VTW,
    MSTATUS_FS,
    MSTATUS_MPP_SHIFT,
    MSTATUS_MPV,
    MSTATUS_SPIE,
    MSTATUS_SPP,
)
from trapline.privilege.passing import PAUSES, pass_time
from trapline.sbi.numbers import FirmwareEvent

if TYPE_CHECKING:
    from trapline.kvm.vm import Vm

FS_INITIAL, FS_CLEAN = 1 << 13, 2 << 13
A0, A1 = 10, 11

_POLL_EXITS = 256  # exits between two looks at the VMM's wish to have KVM_RUN back


class Vcpu(vcpu_state.VcpuWords, VcpuTraps, Named):
    """One virtual CPU of a VM. `kvm_run` is what it shares with the VMM."""

    snapshot_skips, snapshot_types = vcpu_state.SKIPS, vcpu_state.TYPES
    checkpoint_skips = ("native_policy", "native_flags", "native_slots")

    def __init__(self, vm: Vm, vcpu_id: int, hart: Hart) -> None:
        super().__init__()
        self.vm, self.id, self.hart = vm, vcpu_id, hart
        # What call_action does under CPython.
        hart.on_action = lambda cause: int(vm.actions[cause](hart))  # type: ignore[method-assign, assignment]
        hart.on_run = self._run_guest  # type: ignore[method-assign]
        hart.kvm_timebase = vm.timebase
        self.policy: Policy = vm.policy
        self.kvm_run = KvmRun()
        self.stats = VcpuStats(vm.policy)
        self.decoder = Decoder(hart)
        self.csrs = GuestCsrs(hart)
        self.config: VcpuConfig = VcpuConfig(hedeleg=vm.policy.hedeleg, hideleg=vm.policy.hideleg)
        self.isa_disabled: set[str] = withheld(self)
        self.guest_debug = False
        # What hosted exits know of (kvm.exits.native_setup), and whether a VMM waits for KVM_RUN to come back.
        self.native_policy: tuple[Policy, bool, int] | None = None
        self.native_flags: tuple[tuple[object, ...], int] = (), 0
        self.native_seen = 0
        self.native_slots: list[int] = []
        self.vmm_waits = False
        self.loaded = self.ran_once = self.in_guest = False
        self.mp_state = MpState.RUNNABLE if vcpu_id == 0 else MpState.STOPPED
        self.blocked = self.yielded = False
        self.death: Death | None = None
        self.csr_insn: int | None = None
        self.machine_ids = [int(hart.mvendorid), int(hart.marchid), int(hart.mimpid)]
        self._reset_to: tuple[int, int] | None = None
        self.aia = VcpuAia(self)
        self.timer = VcpuTimer(self, sstc=self._has_sstc())
        self.sbi = VcpuSbi(self)
        self.nested = NestedHart(self, vm.shadow_pool(hart)) if vm.nested else None
        self.reset(0, 0)
        self._complete = True

    def __repr__(self) -> str:
        return f"<Vcpu {self.id} of {self.policy.name}, {self.hart!r}>"

    # --- state ---
    def reset(self, pc: int, opaque: int) -> None:
        """Reset to VS-mode at `pc` with a0 the vCPU's id and a1 `opaque` (kvm_riscv_reset_vcpu)."""
        self.put()
        hart = self.hart
        self.csrs = GuestCsrs(hart)
        for n in range(1, 32):
            hart.x[n] = 0
            hart.f[n] = 0
        hart.f[0] = hart.fflags = hart.frm = 0
        hart.x[A0], hart.x[A1] = self.id, opaque
        hart.guest_sepc = pc
        hart.guest_sstatus = MSTATUS_SPP | MSTATUS_SPIE | (FS_INITIAL if self.guest_has("f") else 0)
        hart.guest_hstatus = HSTATUS_SPVP | HSTATUS_SPV
        if not self.policy.has_feature("wfi-runs"):
            hart.guest_hstatus |= HSTATUS_VTW
        self.timer.reset()
        self.irqs_pending = self.irqs_pending_mask = 0
        self.aia.reset()
        self.sbi.reset()
        self.blocked = False
        if self.nested is not None:
            self.nested.reset()

    def guest_has(self, extension: str) -> bool:
        """Whether the guest has the extension of this (lower case) name, and this KVM knows it."""
        return extension not in self.isa_disabled and host_has(self, extension)

    def _has_sstc(self) -> bool:
        """Whether the hart has Sstc, the firmware gave it to HS-mode, and this KVM gives it to guests."""
        offered = self.hart.has_sstc != 0 and int(self.hart.menvcfg) & ENVCFG_STCE != 0
        return bool(offered and self.policy.has_feature("sstc"))

    def configure_once(self) -> None:
        """What KVM decides when a vCPU first runs: henvcfg and hstateen0 from the guest's extensions."""
        if self.ran_once:
            return
        self.ran_once = True
        configure(self)

    def load(self) -> None:
        """Write the vCPU's CSRs into the hart."""
        if self.loaded:
            return
        self.configure_once()
        call, has, its = self.hart.call, self.config, self.csrs
        call(load_host, has.hedeleg, has.hideleg, has.henvcfg, self.policy.hcounteren)
        if self.hart.has_smstateen != 0:
            call(csr_write, csr.HSTATEEN0, self.config.hstateen0)
        self.vm.update_hgatp(self)
        call(load_trap_csrs, its.vsie, its.vstvec, its.vsscratch, its.vsepc, its.vscause, its.vstval)
        call(load_csrs, its.vsstatus, its.hvip, its.vsatp, its.scounteren, its.senvcfg)
        self.aia.load()
        self.timer.restore()
        self.loaded = True
        if self.nested is not None:
            self.nested.loaded()

    def put(self) -> None:
        """Read the vCPU's CSRs back; it must be loaded again before it runs."""
        if not self.loaded:
            return
        if self.in_guest:
            self._preempt()
        if self.nested is not None:
            self.nested.put()
        for field, number in GUEST_CSRS.items():
            if field != "hvip":
                setattr(self.csrs, field, int(self.hart.call(csr_read, number)))
        self.aia.put()
        self.timer.sync()
        self.timer.save()
        self.loaded = False

    def _preempt(self) -> None:
        """Leave guest mode between two instructions, as if a host interrupt had come."""
        self.hart.call(preempt)
        interrupts.sync_interrupts(self)

    @property
    def pc(self) -> int:
        """The guest's pc."""
        return int(self.hart.pc if self.in_guest else self.hart.guest_sepc)

    def set_pc(self, pc: int) -> None:
        """Move the guest."""
        if self.in_guest:
            self.put()
        self.hart.guest_sepc = pc

    # --- interrupts, debug, power ---
    def set_interrupt(self, irq: int, *, level: bool = True) -> int:
        """Make a VS-level interrupt pending, or take it back."""
        return interrupts.set_interrupt(self, irq, level=level)

    def interrupt(self, irq: int) -> int:
        """KVM_INTERRUPT: KVM_INTERRUPT_SET or _UNSET drives the VS external interrupt."""
        if irq not in (KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET):
            return -EINVAL
        return self.set_interrupt(IRQ_VS_EXT, level=irq == KVM_INTERRUPT_SET)

    def set_guest_debug(self, control: int) -> int:
        """KVM_SET_GUEST_DEBUG: while it is on, breakpoints leave the guest. Software breakpoints only."""
        if not self.policy.debug_undelegates or control & ~KVM_GUESTDBG_ENABLE:
            return -EINVAL
        self.put()
        self.guest_debug = bool(control & KVM_GUESTDBG_ENABLE)
        bits = self.policy.debug_undelegates & self.policy.hedeleg
        self.config.hedeleg = self.config.hedeleg & ~bits if self.guest_debug else self.config.hedeleg | bits
        return 0

    def get_mp_state(self) -> MpState:
        """KVM_GET_MP_STATE."""
        return self.mp_state

    def set_mp_state(self, state: int) -> int:
        """KVM_SET_MP_STATE; INIT_RECEIVED resets the registers where KVM can (6.16)."""
        if state == MpState.INIT_RECEIVED and self.policy.has_feature("mp-state-reset"):
            self.reset(0, 0)
            state = MpState.RUNNABLE
        elif state not in (MpState.RUNNABLE, MpState.STOPPED):
            return -EINVAL
        self.mp_state = MpState(state)
        return 0

    def start(self, pc: int, opaque: int) -> None:
        """Power on at `pc` when it is next run (HSM)."""
        self.request_reset(pc, opaque)
        self.mp_state = MpState.RUNNABLE
        self.blocked = False

    def request_reset(self, pc: int, opaque: int) -> None:
        """Begin anew at `pc` when it is next run (KVM_REQ_VCPU_RESET)."""
        self._reset_to = (pc, opaque)

    def halt(self) -> None:
        """WFI: block until an interrupt is pending."""
        self.blocked = not self.runnable()

    def _halted(self) -> None:
        """A WFI that a hosted exit has handled: what it does not see of AIA may end it at once."""
        self.blocked = not self.aia.has_interrupts()
        if self.blocked:
            self.hart.call(waited, time_of(self.hart) - int(self.hart.kvm_blocked_at))

    def runnable(self) -> bool:
        """Whether something ends a WFI (kvm_arch_vcpu_runnable, kvm_cpu_has_pending_timer)."""
        if self.hart.kvm_world != 0:
            return bool(int(self.hart.call(nested_wakes)))
        return interrupts.has_interrupts(self) or interrupts.timer_pending(self)

    def advance(self, tick: int) -> None:
        """Let time pass to `tick` without instructions."""
        now = time_of(self.hart)
        if tick > now:
            self.hart.call(pass_time, tick)
            if self.blocked:
                self.hart.call(waited, tick - now)
        self.timer.tick()

    def stats_fd(self) -> bytes:
        """KVM_GET_STATS_FD of the vCPU: what its file holds now."""
        self.stats.fold(self.hart)
        values: dict[str, int | list[int]] = {
            **self.stats.kvm,
            **self.stats.generic,
            "halt_wait_hist": self.stats.halt_wait_hist,
        }
        return stats_file(f"kvm-0/vcpu-{self.id}", vcpu_descriptors(self.policy), values)

    def count_firmware_event(self, event: FirmwareEvent, times: int = 1) -> None:
        """Count an event of the guest's SBI PMU."""
        if self.sbi.counters is not None:
            self.sbi.counters.count(event, times)

    # --- KVM_RUN ---
    def run(self, limit: int) -> RunStop:
        """KVM_RUN: finish what the last exit left open, then run until the guest needs the VMM."""
        self.complete()
        self.sbi.steal.record()
        if self.firmware_dump:
            return RunStop.HUNG
        if self.kvm_run.immediate_exit:
            self.kvm_run.exit_reason = Exit.INTR
            return RunStop.INTR
        self._restore_fp()
        self.hart.kvm_run_end = int(self.hart.instret) + limit
        if not self._ready():
            return RunStop.BLOCKED
        prepare(self)
        return self._loop()

    def resume(self, reason: int) -> RunStop:
        """KVM_RUN goes on where its guest came back (EXIT_*), having been entered by kvm.turns."""
        return self._came_back(reason) or self._loop()

    def _loop(self) -> RunStop:
        for turn in itertools.count(1):
            if turn % _POLL_EXITS == 0 and self.vm.poll is not None and self.vm.poll():
                return RunStop.STOP
            if not self._ready():
                return RunStop.BLOCKED
            self.load()
            self.timer.tick()
            if self.sbi.counters is not None and self.sbi.counters.armed:
                self.sbi.counters.check_overflow()
            if self.hart.instret >= self.hart.kvm_run_end:
                return RunStop.LIMIT
            self._enter()
            allow_exits(self)
            stop = self._came_back(self._run_guest(self._slice()))
            if stop is not None:
                return stop
            if self.is_trace_full():
                return RunStop.STOP
        raise AssertionError("unreachable")

    def is_trace_full(self) -> bool:
        """Whether the ring of traps must be read before the guest goes on."""
        return bool(self.hart.trace_base != 0 and self.hart.call(is_much_unread) != 0)

    def _came_back(self, reason: int) -> RunStop | None:
        collect(self)
        if self.blocked:
            self._halted()
        stop = self._leave(reason)
        if stop is None and self.yielded:
            self.yielded = False
            stop = RunStop.YIELD if len(self.vm.vcpus) > 1 else None
        return stop

    def _run_guest(self, limit: int) -> int:
        """Run the guest until there is something that only Python can do; return why (EXIT_*)."""
        then = hosted_then(self.hart)
        reason = then or int(self.vm.engine.run(self.hart, limit))
        if self.hart.pauses >= PAUSES:
            self.hart.call(spend_pauses)
        if (then or not self.vm.engine.compiles) and reason in (EXIT_HOSTED_M, EXIT_HOSTED_HS):
            return self._hosted_exit(reason)
        return reason

    def _hosted_exit(self, reason: int) -> int:
        """What native code does by itself when the guest traps to a hosted level."""
        self.hart.exit_reason = reason
        return EXIT_TIMER if int(self.hart.call(hosted_exit)) == GO_ON else int(self.hart.exit_reason)

    def is_quiet(self) -> bool:
        """Whether KVM_RUN may be entered without Python: nothing is open, and nobody looks at each exit (kvm.turns)."""
        run, sbi, hart = self.kvm_run, self.sbi, self.hart
        if self.nested is not None or self.aia.imsic is not None or sbi.return_open or not self.loaded:
            return False
        if run.immediate_exit or self.csr_insn is not None or self._reset_to is not None or self.firmware_dump:
            return False
        if sbi.steal.reports or sbi.awaits_overflow():
            return False
        return not self.yielded and hart.kvm_mmio_open == 0 and hart.stop_then == 0

    def _restore_fp(self) -> None:
        """The guest's floating-point registers are as they were saved: FS is Clean (vcpu_fp.c)."""
        status = int(self.hart.guest_sstatus)
        if not self.in_guest and status & MSTATUS_FS:
            self.hart.guest_sstatus = status & ~MSTATUS_FS | FS_CLEAN

    def complete(self) -> None:
        """Take the VMM's answer to the last exit: the value of an MMIO load, of a call, of a CSR."""
        mmio_return(self)
        sbi_return(self)
        csr_return(self)

    def _ready(self) -> bool:
        if self.mp_state is MpState.STOPPED:
            return False
        if self.blocked:
            self.timer.tick()
            if not self.runnable():
                return False
            self.blocked = False
            self.hart.call(woke)
        if self._reset_to is not None:
            self.reset(*self._reset_to)
            self._reset_to = None
            self._restore_fp()  # the vCPU is loaded anew
        return True

    def _slice(self) -> int:
        """Return how many instructions may run before something must be looked at."""
        left = int(self.hart.call(slice_left))
        if self.sbi.counters is not None and self.sbi.counters.armed:
            left = max(1, min(left, self.sbi.counters.until_overflow()))
        return left

    def _enter(self) -> None:
        if not self.in_guest and self.hart.kvm_world == 0:
            self.vm.update_hgatp(self)
        self.hart.call(enter_vcpu)

    def _leave(self, reason: int) -> RunStop | None:
        if reason == EXIT_HOSTED_HS:
            if int(self.hart.kvm_via) == 0:
                return self._exit(("HS",), ("hardware",))
            price = self.vm.firmware.cost_of(firmware_events()[int(self.hart.fw_event) - 1])
            self.m_instructions, self._m_source, self._raised = price.instructions, price.source, int(self.hart.mcause)
            return self._exit(("M", "HS"), ("hardware", firmware_outcome.REDIRECT))
        if reason == EXIT_HOSTED_M:
            return self._firmware()
        if reason in (EXIT_STOP, EXIT_BREAK):
            if reason == EXIT_BREAK and self.vm.stopped(self):
                return None
            return RunStop.STOP
        if reason == EXIT_WFI:
            self.hart.call(stalls)
            if self.blocked:
                self._halted()
        return None

    def _firmware(self) -> RunStop | None:
        """What the compiled handler leaves of traps to M-mode: a machine interrupt, and what firmware hangs on."""
        cause, mstatus = int(self.hart.mcause), int(self.hart.mstatus)
        origin = origin_of(mstatus >> MSTATUS_MPP_SHIFT & 3, int(mstatus & MSTATUS_MPV != 0))
        self._begin(cause, origin, int(self.hart.mepc), int(self.hart.mtval))
        done = self.vm.firmware.handle(self.hart)
        self.m_instructions, self._m_source, self._raised = done.instructions, done.cost.source, cause
        self._path.append("M")
        self._how.append("hardware")
        if done.destination == firmware_outcome.HUNG:
            self.in_guest = False
            self._finish("hung", done.how, None)
            self.firmware_dump = done.dump
            return RunStop.HUNG
        self._finish("resumed", done.how, origin_of(self.hart.priv, self.hart.virt))
        return None

    def _exit(self, through: tuple[str, ...], how: tuple[str, ...]) -> RunStop | None:
        """A trap reached HS-mode: account for it, look it up in the policy, go on or go out."""
        hart = self.hart
        hart.call(save_guest)
        self.in_guest = False
        trap = CpuTrap(int(hart.scause), int(hart.sepc), int(hart.stval), int(hart.htval), int(hart.htinst))
        self._begin(trap.scause, self.level_mode(), trap.sepc, trap.stval)
        self._path += through
        self._how += how
        hart.call(begin_exit, trap.scause)
        ret = vcpu_exit(self, trap)
        if trap.scause == ECALL_VS:
            refresh_actions(self)
            refresh_flags(self)
        gpa = trap.gpa if trap.scause in GUEST_PAGE_FAULTS else None
        hops = self._pending_hop or ("hardware", "resumed")
        self._finish(hops[1], hops[0], self.level_mode() if ret > 0 else "VMM", -ret if ret < 0 else 0, gpa)
        if self.death is not None and ret < 0:
            self.death.routes = tuple(self.vm.last_traps)
            return RunStop.ERROR
        return RunStop.EXIT if ret == 0 else None

    def _finish(self, end: str, how: str, where: str | None, errno: int = 0, gpa: int | None = None) -> None:
        record = self._ended(end, how, where, errno, gpa)
        self._spend(record.m_instructions + record.hs_instructions + record.user_instructions)
        self.vm.record(self, record)

    def _spend(self, instructions: int) -> None:
        """Time passes for what the hosted levels are estimated to execute, as for the guest's own instructions."""
        before = time_of(self.hart)
        self.hart.call(spend_time, instructions)
        if self.blocked:
            self.hart.call(waited, time_of(self.hart) - before)

    def kill(self, trap: CpuTrap, rule: CauseRule, ret: int, lines: tuple[str, str, str]) -> None:
        """KVM_RUN fails: keep everything that says why."""
        for line in lines:
            self.vm.log(f"kvm: {line}")
        self.death = autopsy(self, trap, rule, -ret, lines)
