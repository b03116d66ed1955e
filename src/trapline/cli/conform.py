"""`trapline conform`: presets against real kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trapline.cli.common import fetched, finish, native
from trapline.cli.numbers import Address, Isa, Repeat
from trapline.cli.options import EXIT_FAILED, EXIT_LIMIT, EventPattern, Flag, Json, Junit, Misaligned, Several

if TYPE_CHECKING:
    from trapline.conform.board import Host


def conform(
    policies: tuple[str, ...] = (),
    /,
    *,
    kernel: str | None = None,
    bios: Several = (),
    module: Several = (),
    program: str | None = None,
    event: EventPattern = None,
    sweep: Several = (),
    repeat: Repeat = 2,
    isa: Isa | None = None,
    misaligned: Misaligned = "trap",
    accepted: str | None = None,
    console: str | None = None,
    costs: Flag = False,
    record: str | None = None,
    guest: str | None = None,
    firmware: Several = (),
    firmware_model: str | None = None,
    entry: Address | None = None,
    nested: Flag = False,
    nacl: str | None = None,
    junit: Junit = None,
    json: Json = None,
) -> int:
    """Compare a preset with the real kernel that it is named after; exit code 1 if they differ.

    Real firmware and a real kernel boot on the board, with a small KVM user program as init, which raises every event
    that `trapline route` knows in a guest of the kernel's own KVM. The same probes run under the preset.

    Parameters
    ----------
    policies
        Presets or TOML files to compare with; the preset of the kernel's version if none is named.
    kernel
        The host kernel: an Image, or the name of a fetched one, with its OpenSBI and KVM (trapline fetch); without it
        the fetched kernels of the presets' versions.
    bios
        M-mode firmware (OpenSBI fw_dynamic), may be given several times.
    module
        A module that the kernel needs for KVM (kvm.ko or kvm.ko.xz), may be given several times, in order.
    program
        A built KVM user program; built by riscv64-linux-gnu-gcc if not said.
    sweep
        Only this sweep (csr-read, csr-write, csr-kept, sbi, sbi-on, ...), may be given several times.
    repeat
        How often each event is raised; the run with the fewest interrupts counts.
    isa
        ISA string of the hart.
    misaligned
        Whether the hart does misaligned accesses itself or traps.
    accepted
        A list of accepted differences instead of the package's own (TOML).
    console
        Write what the host wrote on its console.
    costs
        Measure what each trap costs instead: instructions by level.
    record
        With --costs, merge the numbers into this file of measurements (JSON).
    guest
        Run this guest (ELF, Linux Image or flat; or a fetched kernel) under the host's KVM and under the preset
        instead, and compare the consoles line by line.
    firmware
        An M-mode image instead of a kernel: who gets each trap, what its redirects write, what it emulates, what that
        costs, and the model that it is most like. Given several times, the images stand side by side.
    firmware_model
        With --firmware, compare with this model; exit code 1 if something differs.
    entry
        With --firmware, where the image starts S-mode (0x80200000).
    nested
        Raise the events in guests of the kernel as a guest of the policies (linux-7.2), against the kernel on the
        board (docs/nested.md).
    nacl
        With --nested: what of SBI NACL the kernel is given: off, or some of csr,hfence,sret,autoswap.
    """
    from trapline.conform.conform import ISA
    from trapline.conform.conform import conform as lab
    from trapline.conform.hosts import hosts
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.views.conform import show_conformance
    from trapline.views.junit import conform_suites, write_junit
    from trapline.views.progress import bar

    if firmware:
        given = {"--kernel": kernel, "--bios": bios, "--program": program, "--guest": guest}
        for name, value in {
            **given,
            "--costs": costs or None,
            "--nested": nested or None,
            "POLICY": policies,
            "--sweep": sweep,
        }.items():
            if value:
                raise UsageError(f"{name} does not go with --firmware")
        return _firmware(firmware, firmware_model, event, isa, misaligned, entry, junit, json)
    if firmware_model is not None or entry is not None:
        raise UsageError("--firmware-model and --entry go with --firmware")
    if record is not None and not costs:
        raise UsageError("--record goes with --costs")
    if junit is not None and (costs or guest is not None):
        raise UsageError("--junit goes with events and sweeps, not with --costs or --guest")
    _require_nested(nested, nacl, sweep=sweep, costs=costs, guest=guest)
    native()
    hart = isa or (costs_isa() if costs or guest is not None else ISA)
    wanted = () if nested else policies
    chosen = hosts(kernel, bios, module, program, hart, "hardware" if costs else misaligned, wanted=wanted)
    if costs:
        return _costs(chosen, record, json)
    if guest is not None:
        # A fetched kernel is compared with the preset that named it.
        return _guest(chosen, guest, policies if kernel else (), accepted, console, json)
    with bar("conform") as update:
        if nested:
            from trapline.conform.nested_events import conform_nested

            under = policies or ("linux-7.2",)
            result = conform_nested(
                chosen, under, nacl=nacl or "", event=event, repeat=repeat, accepted=accepted, progress=update
            )
        else:
            result = lab(
                chosen,
                policies if kernel else (),
                event=event,
                sweep=sweep,
                repeat=repeat,
                accepted=accepted,
                progress=update,
            )
    _write(console, b"".join(result.consoles))
    if junit is not None:
        with behind_result():
            write_junit(junit, conform_suites(result))
    finish(result.as_data(), json, lambda out: show_conformance(out, result))
    return 0 if result.passed else EXIT_FAILED


def _firmware(
    images: tuple[str, ...],
    against: str | None,
    event: str | None,
    isa: str | None,
    misaligned: Misaligned,
    entry: int | None,
    junit: str | None,
    json: str | None,
) -> int:
    from trapline.conform.firmware import conform_firmware
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result
    from trapline.named_files import no_file
    from trapline.views.conform_firmware import firmware_suites, show_firmware
    from trapline.views.junit import write_junit
    from trapline.views.progress import bar

    for image in images:
        if reason := no_file(image):
            raise UsageError(f"{image}: {reason}", "--firmware")
    native()
    results = []
    for number, image in enumerate(images):
        with bar(f"conform {number + 1}/{len(images)}" if len(images) > 1 else "conform") as update:
            results.append(
                conform_firmware(
                    image, against=against, event=event, isa=isa, misaligned=misaligned, entry=entry, progress=update
                )
            )
    if junit is not None:
        with behind_result():
            write_junit(junit, [suite for result in results for suite in firmware_suites(result)])
    passed = all(result.passed for result in results)
    data = {"passed": passed, "firmware": [result.as_data() for result in results]}
    finish(data, json, lambda out: show_firmware(out, results))
    return 0 if passed else EXIT_FAILED


def _require_nested(nested: bool, nacl: str | None, *, sweep: Several, costs: bool, guest: str | None) -> None:
    from trapline.lab.errors import UsageError

    if nacl is not None and not nested:
        raise UsageError("--nacl goes with --nested")
    for option, given in (("--sweep", sweep), ("--costs", costs), ("--guest", guest is not None)):
        if nested and given:
            raise UsageError(f"{option}: not with --nested", remedy="--nested compares events")


def _write(path: str | None, console: bytes) -> None:
    from trapline.lab.errors import UsageError
    from trapline.lab.output import behind_result

    if path is None:
        return
    with behind_result():
        try:
            Path(path).write_bytes(console)
        except OSError as error:
            raise UsageError(f"cannot write {path!r}: {error.strerror or error}", "--console") from None


def _guest(
    hosts: list[Host], image: str, policies: tuple[str, ...], accepted: str | None, console: str | None, json: Json
) -> int:
    from trapline.conform.own_guest import conform_guest
    from trapline.views.linux_guest import show_guests
    from trapline.views.progress import bar

    kernel = fetched(image)
    with bar("conform") as update:
        update(0, 1, f"boots {Path(image).name} as a guest")
        found = conform_guest(hosts, image if kernel is None else kernel.image, policies, accepted)
    _write(console, b"".join(dict.fromkeys(g.real.console for g in found)))
    passed = all(g.passed for g in found)
    data = {"passed": passed, "guests": [g.as_data() for g in found]}
    finish(data, json, lambda out: show_guests(out, found))
    if not passed:
        return EXIT_FAILED
    return EXIT_LIMIT if any(g.silent for g in found) else 0


def costs_isa() -> str:
    """Return the hart on which costs are measured."""
    from trapline.conform.costs import ISA

    return ISA


def _costs(hosts: list[Host], file: str | None, json: Json) -> int:
    from trapline.conform.costs import measure
    from trapline.conform.costs import record as merge
    from trapline.lab.output import behind_result
    from trapline.views.costs import show_costs
    from trapline.views.progress import bar

    with bar("costs") as update:
        tables = [measure(host, progress=update) for host in hosts]
    if file is not None:
        with behind_result():
            merge(tables, file)
    finish([t.as_data() for t in tables], json, lambda out: show_costs(out, tables))
    return 0
