"""What heads every result: the policy, the firmware underneath, and who gets misaligned accesses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trapline.dataclass import dataclass
from trapline.firmware.models import DEFAULT_MODEL
from trapline.lab.errors import UsageError
from trapline.lang.given import require_kind
from trapline.policies import Policy, PolicyError, load_policy
from trapline.privilege.isa_string import extensions

MISALIGNED = ("hardware", "trap")
ON_OFF = ("on", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """A policy, a firmware model, and two switches."""

    policy: Policy
    firmware: str = DEFAULT_MODEL
    host_fwft: bool = False
    misaligned: str = "trap"

    def head(self) -> dict[str, Any]:
        """Return what every JSON result begins with."""
        return {
            "policy": self.policy.name,
            "firmware": self.firmware,
            "host_fwft": self.host_fwft,
            "misaligned": self.misaligned,
        }

    def facts(self) -> tuple[str, str, str, str]:
        """Return the same for people."""
        fwft = "on" if self.host_fwft else "off"
        policy, firmware = f"policy {self.policy.name}", f"firmware {self.firmware}"
        return policy, firmware, f"host-fwft {fwft}", f"misaligned {self.misaligned}"

    def options(self) -> str:
        """Return the command line options that select these settings."""
        fwft = "on" if self.host_fwft else "off"
        text = f"--policy {self.policy.name} --firmware {self.firmware} --host-fwft {fwft}"
        return text if self.misaligned == "trap" else f"{text} --misaligned {self.misaligned}"


def policy_of(name: str | Path | Policy) -> Policy:
    """Return a policy by preset name or TOML file; UsageError says what is wrong with it."""
    require_kind("policy", name, str, Path, Policy)
    if isinstance(name, Policy):
        return name
    try:
        return load_policy(name)
    except PolicyError as error:
        raise UsageError(str(error)) from None


def firmware_of(name: str) -> str:
    """Return the name of a firmware model that exists."""
    from trapline.lab.firmware_names import firmware_named

    return firmware_named(name).name


def guest_isa(isa: str) -> str:
    """Return the ISA string of a hart that can have guests; UsageError says why it is none."""
    try:
        found = extensions(isa)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if "h" not in found:
        raise UsageError(f"ISA string {isa!r} has no H extension", remedy="a guest needs it")
    return isa


def settings(
    policy: str | Path | Policy = "linux-7.2",
    firmware: str = DEFAULT_MODEL,
    host_fwft: bool | str = False,
    misaligned: str = "trap",
) -> Settings:
    """Return checked settings."""
    if misaligned not in MISALIGNED:
        raise UsageError(f"--misaligned {misaligned!r}", remedy="hardware or trap")
    if isinstance(host_fwft, str):
        if host_fwft not in ON_OFF:
            raise UsageError(f"--host-fwft {host_fwft!r}", remedy="on or off")
        host_fwft = host_fwft == "on"
    return Settings(policy_of(policy), firmware_of(firmware), host_fwft, misaligned)
