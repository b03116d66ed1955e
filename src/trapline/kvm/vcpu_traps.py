"""The trap of a vCPU that is under way: its path, what each level did with it, and its record at the end."""

from __future__ import annotations

from trapline.kvm.report.cost import estimate
from trapline.kvm.report.trace import TrapRecord, origin_of
from trapline.lang.state import Hart
from trapline.policies import Policy
from trapline.privilege.fields import HSTATUS_SPV, MSTATUS_SPP
from trapline.privilege.modes import mode_name


class VcpuTraps:
    """What a vCPU knows of the trap that it handles."""

    hart: Hart
    id: int
    policy: Policy
    _pending_hop: tuple[str, str] | None = None
    m_instructions = 0
    _m_source = ""
    _raised: int | None = None
    firmware_dump = ""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._how: list[str] = []
        self._trap = (0, 0, 0)

    def guest_mode(self) -> str:
        """The mode of the hart in which the guest was left."""
        virt = int(self.hart.guest_hstatus) & HSTATUS_SPV != 0
        return origin_of(int(int(self.hart.guest_sstatus) & MSTATUS_SPP != 0), int(virt))

    def present_mode(self) -> str:
        """The guest's mode, wherever its registers are."""
        return mode_name(self.hart) if self.hart.kvm_in_guest != 0 else self.guest_mode()

    def level_mode(self) -> str:
        """The same; vVS and vVU for the guest of a guest hypervisor."""
        return f"v{self.guest_mode()}" if self.hart.kvm_world != 0 else self.guest_mode()

    def _begin(self, cause: int, origin: str, epc: int, tval: int) -> None:
        self._path, self._how, self._pending_hop = [origin], [], None
        self._trap = (cause, epc, tval)

    def hop(self, how: str, end: str) -> None:
        """Say what HS-mode did with the trap under way, and how it ends; the last word counts."""
        self._pending_hop = (how, end)

    def _ended(self, end: str, how: str, where: str | None, errno: int, gpa: int | None) -> TrapRecord:
        """Return the record of the trap under way, which has ended."""
        if where is not None:
            self._path.append(where)
        self._how.append(how)
        cause, epc, tval = self._trap
        cost = estimate(how, end, self.policy.release) if "HS" in self._path else None
        record = TrapRecord(
            instret=int(self.hart.instret),
            vcpu=self.id,
            cause=cause,
            origin=self._path[0],
            path=tuple(self._path),
            how=tuple(self._how),
            end=end,
            errno=errno,
            epc=epc,
            tval=tval,
            gpa=gpa,
            raised=cause if self._raised is None else self._raised,
            m_instructions=self.m_instructions,
            m_source=self._m_source,
            hs_instructions=cost.hs if cost else 0,
            user_instructions=cost.user if cost else 0,
        )
        self.m_instructions, self._m_source, self._raised = 0, "", None
        return record
