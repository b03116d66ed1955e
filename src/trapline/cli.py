"""The commands: parse, call the lab, show a view. Everything heavy is imported inside the commands."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

if TYPE_CHECKING:
    from trapline.lab.guest_run import RunOptions
    from trapline.machine.console import Console

OnOff = Literal["on", "off"]
Misaligned = Literal["hardware", "trap"]
Engine = Literal["native", "reference"]
Tinst = Literal["zero", "transformed"]
Several = Annotated[tuple[str, ...], Parameter(negative="")]
Json = Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)]

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trapline")
    except PackageNotFoundError:
        return "unknown (not installed)"


app = App(
    name="trapline",
    help="A RISC-V KVM in Python: unmodified guests, and the route, count and cost of every trap.",
    version=_version,
    help_format="plaintext",
)


@Parameter(name="*")
@dataclass(frozen=True)
class Under:
    """What every result is headed by.

    Attributes
    ----------
    policy
        A preset (`trapline policies`) or a TOML file.
    firmware
        The M-mode model underneath.
    host_fwft
        Whether the host kernel asked the firmware to delegate misaligned accesses.
    misaligned
        Whether the hart does misaligned accesses itself or traps.
    """

    policy: str = "linux-7.2"
    firmware: str = "opensbi-1.6"
    host_fwft: OnOff = "off"
    misaligned: Misaligned = "trap"


@Parameter(name="*")
@dataclass(frozen=True)
class Machine:
    """The machine around a guest or a board.

    Attributes
    ----------
    memory
        RAM, for example 256M.
    smp
        vCPUs or harts.
    append
        The kernel's command line.
    initrd
        An initial ramdisk.
    max_instructions
        Stop after so many instructions (exit code 3).
    max_seconds
        Stop after so many seconds (exit code 3).
    timebase
        Frequency of the time CSR in Hz.
    isa
        ISA string of the harts.
    engine
        native, or reference (CPython).
    tinst
        What explicit accesses that trap write to mtinst and htinst: zero, or the transformed instruction.
    """

    memory: str = "256M"
    smp: int = 1
    append: str = ""
    initrd: str | None = None
    max_instructions: int | None = None
    max_seconds: float | None = None
    timebase: int = 10_000_000
    isa: str | None = None
    engine: Engine = "native"
    tinst: Tinst = "zero"

    def isa_or_default(self) -> str:
        """Return the ISA string."""
        from trapline.privilege.isa_string import DEFAULT_ISA

        return self.isa or DEFAULT_ISA


UNDER = Under()
MACHINE = Machine()


def _settings(under: Under) -> Any:
    from trapline.lab.settings import settings

    return settings(under.policy, under.firmware, under.host_fwft, under.misaligned)


def _native(engine: str = "native") -> Any:
    from trapline.lab.engines import engine_of
    from trapline.views.progress import line

    return engine_of(engine, line)


def _finish(data: Any, json: str | None, show: Any) -> None:
    """Write JSON where it is wanted, and show the tables unless JSON went to standard output."""
    if json is not None:
        from trapline.views.data import write_json

        write_json(data, json)
    if json != "-":
        from trapline.views.terminal import out

        show(out())


@contextlib.contextmanager
def _console(json: str | None) -> Iterator[Console]:
    """The terminal as the guest's console; with JSON on standard output, the guest writes to standard error."""
    from trapline.machine.console import Console, terminal

    with terminal() as console:
        if json != "-":
            yield console
            return
        yield Console(_to_stderr, console.source)


def _to_stderr(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def _run_options(guest: str, under: Under, machine: Machine, memslot: Sequence[str], trace: str | None) -> RunOptions:
    from trapline.lab.guest_run import RunOptions

    return RunOptions(
        guest,
        _settings(under),
        machine.memory,
        machine.smp,
        machine.append,
        machine.initrd,
        tuple(memslot),
        machine.max_instructions,
        machine.max_seconds,
        machine.timebase,
        machine.isa_or_default(),
        machine.engine,
        trace,
        machine.tinst,
    )


@app.command
def run(
    guest: str,
    /,
    *,
    under: Under = UNDER,
    machine: Machine = MACHINE,
    memslot: Several = (),
    trace: str | None = None,
    json: Json = None,
) -> int:
    """Run a guest under a policy and show what each of its traps did.

    Its console is this terminal; Ctrl-A x ends the run.

    Parameters
    ----------
    guest
        An S-mode program: ELF, Linux Image, or flat bytes for 0x80200000.
    memslot
        GPA:SIZE:ram|ro|hole|PATH, may be given several times.
    trace
        Write a line of JSON for each trap that leaves the guest.
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.guest_run import run_guest
    from trapline.views.progress import line
    from trapline.views.run import show_run

    options = _run_options(guest, under, machine, memslot, trace)
    with _console(json) as console:
        report = run_guest(options, console, line)
    _newline(report.result.reason)
    _finish(report.as_data(), json, lambda out: show_run(out, report))
    return report.result.exit_status


def _newline(reason: str) -> None:
    """Part the guest's last output from the table."""
    if sys.stdout.isatty() or reason != "exit":
        sys.stdout.write("\n")
        sys.stdout.flush()


@app.command
def boot(
    image: str | None = None,
    /,
    *,
    bios: str | None = None,
    kernel: str | None = None,
    machine: Machine = MACHINE,
    misaligned: Misaligned = "trap",
    log_commits: str | None = None,
    signature: str | None = None,
    signature_granularity: int = 16,
    json: Json = None,
) -> int:
    """Boot real M-mode code: a bare program, or firmware with what it starts.

    Parameters
    ----------
    image
        An ELF or flat file that starts in M-mode.
    bios
        M-mode firmware, placed as QEMU's virt machine does.
    kernel
        What the firmware starts.
    log_commits
        Write retired instructions in Spike's format.
    signature
        Write the memory from begin_signature to end_signature.
    signature_granularity
        Bytes of a line of the signature.
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab import boot as lab
    from trapline.views.progress import line
    from trapline.views.run import show_boot

    options = lab.BootOptions(
        image, bios, kernel, machine.initrd, machine.append, machine.memory, machine.smp, misaligned,
        machine.max_instructions, machine.max_seconds, machine.timebase, machine.isa_or_default(), machine.engine,
        log_commits, signature, signature_granularity, machine.tinst,
    )  # fmt: skip
    with _console(json) as console:
        report = lab.boot(options, console, line)
    _newline(report.result.reason)
    _finish(report.as_data(), json, lambda out: show_boot(out, report))
    return report.result.exit_status


@app.command
def route(
    *,
    under: Under = UNDER,
    event: str | None = None,
    isa: str | None = None,
    engine: Engine = "native",
    json: Json = None,
) -> int:
    """Show who gets each cause raised in VS and VU, by executing a probe for every row.

    Parameters
    ----------
    event
        Only this cause (number or name), or events whose name fits a regular expression.
    isa
        ISA string of the hart.
    engine
        native, or reference (CPython).
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.route import route as lab
    from trapline.privilege.isa_string import DEFAULT_ISA
    from trapline.views.routes import show_routes

    result = lab(
        under.policy,
        firmware=under.firmware,
        host_fwft=under.host_fwft == "on",
        misaligned=under.misaligned,
        isa=isa or DEFAULT_ISA,
        engine=_native(engine),
        event=event,
    )
    _finish(result.as_data(), json, lambda out: show_routes(out, result))
    return 0


@app.command
def audit(
    policies: tuple[str, ...] = (),
    /,
    *,
    policy: Several = (),
    all: Annotated[bool, Parameter(negative="")] = False,
    firmware: Several = (),
    host_fwft: Literal["on", "off", "both"] = "both",
    misaligned: Misaligned = "trap",
    event: str | None = None,
    out: str | None = None,
    workers: int | None = None,
    json: Json = None,
) -> int:
    """Execute every event under every firmware and check what a guest can count on; exit code 1 if something fails.

    Parameters
    ----------
    policies
        Presets or TOML files; linux-7.2 if none is named.
    policy
        The same, as an option.
    all
        Every preset.
    firmware
        Only these firmware models.
    host_fwft
        Which of the two settings to try.
    misaligned
        Whether the hart does misaligned accesses itself or traps.
    event
        Only this cause (number or name), or events whose name fits a regular expression.
    out
        Write each counterexample as an ELF, and the commands that replay them.
    workers
        Processes; as many as there are processors if not said.
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.audit import audit as lab
    from trapline.lab.replay import write_all
    from trapline.lab.settings import policy_of
    from trapline.policies import policy_names
    from trapline.views.audit import show_audit
    from trapline.views.progress import bar

    names = [*policies, *policy] or (list(policy_names()) if all else ["linux-7.2"])
    fwft = {"on": (True,), "off": (False,), "both": (False, True)}[host_fwft]
    _native()
    with bar("audit") as update:
        result = lab(
            names, firmware=firmware or None, host_fwft=fwft, misaligned=misaligned, event=event, workers=workers,
            progress=update,
        )  # fmt: skip
    replays = None
    if out is not None:
        replays = write_all(result.failures, out, {policy_of(n).name: n for n in names})
    _finish(result.as_data(), json, lambda console: show_audit(console, result, replays))
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if result.failures else 0


@app.command
def compare(
    policies: tuple[str, ...] = (),
    /,
    *,
    plot: str | None = None,
    json: Json = None,
) -> int:
    """Run the same guest under several policies: trapline compare P1 P2 ... -- GUEST [options of run].

    Parameters
    ----------
    policies
        Presets or TOML files.
    plot
        Draw the instructions by level (.svg, .png, .html); needs the extra trapline[plot].
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.errors import UsageError
    from trapline.views.progress import bar

    if len(policies) < 2 or not _behind_dashes:
        raise UsageError("compare needs two policies and a guest", remedy="trapline compare P1 P2 -- GUEST [options]")
    arguments = _bound("run", _behind_dashes)
    if "json" in arguments:
        raise UsageError("--json goes before the --")
    from trapline.lab.compare import compare as lab
    from trapline.views.compare import show_comparison

    options = _run_options(
        arguments["guest"], arguments.get("under", UNDER), arguments.get("machine", MACHINE),
        arguments.get("memslot", ()), arguments.get("trace"),
    )  # fmt: skip
    _native(options.engine)
    with bar("compare") as update:
        result = lab(options, policies, progress=update)
    if plot is not None:
        _plot(result, plot)
    _finish(result.as_data(), json, lambda out: show_comparison(out, result))
    return max(r.result.exit_status for r in result.reports)


def _plot(result: Any, path: str) -> None:
    from trapline.lab.errors import UsageError
    from trapline.views.compare import save_plot

    try:
        save_plot(result, path)
    except ImportError as error:
        raise UsageError(f"--plot needs {error.name}", remedy="pip install 'trapline[plot]'") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot plot to {path!r}: {error}") from None


policies = App(name="policies", help="List the trap policies, show one, or compare two.", help_format="plaintext")
app.command(policies)


@policies.default
def policies_list(*, json: Json = None) -> int:
    """List the presets."""
    from trapline.lab.policies import presets
    from trapline.views.policies import show_list

    found = presets()
    data = [{"name": p.name, "hedeleg": p.hedeleg, "description": p.description} for p in found]
    _finish(data, json, lambda out: show_list(out, found))
    return 0


@policies.command(name="list")
def policies_list_command(*, json: Json = None) -> int:
    """List the presets."""
    return policies_list(json=json)


@policies.command(name="show")
def policies_show(name: str, /, *, json: Json = None) -> int:
    """Show what a policy does with every cause, and who says so.

    Parameters
    ----------
    name
        A preset or a TOML file.
    """
    from trapline.lab.settings import policy_of
    from trapline.views.policies import show_policy

    policy = policy_of(name)
    _finish(policy.as_data(), json, lambda out: show_policy(out, policy))
    return 0


@policies.command(name="diff")
def policies_diff(left: str, right: str, /, *, json: Json = None) -> int:
    """Show what two policies say differently.

    Parameters
    ----------
    left
        A preset or a TOML file.
    right
        Another one.
    """
    from trapline.lab.policies import difference, difference_data
    from trapline.lab.settings import policy_of
    from trapline.views.policies import show_difference

    a, b = policy_of(left), policy_of(right)
    _finish(difference_data(a, b), json, lambda out: show_difference(out, a, b, difference(a, b)))
    return 0


@app.command
def demo(*, short: Annotated[bool, Parameter(negative="")] = False, json: Json = None) -> int:
    """Show in ten seconds what this is about: one trap, two kernels, one dead guest.

    Parameters
    ----------
    short
        Without the whole route matrix.
    json
        Write the result as JSON to a file, or - for standard output.
    """
    from trapline.lab.demo import demo as lab
    from trapline.views.demo import show_demo

    _native()
    result = lab()
    _finish(result.as_data(), json, lambda out: show_demo(out, result, full=not short))
    return 0


@app.command
def conform(tests: tuple[str, ...] = (), /, *, json: Json = None) -> int:
    """Reserved: running the architecture's conformance tests arrives in a later release."""
    from trapline.lab.errors import UsageError

    raise UsageError(
        "conform is not there yet: the name is reserved for a later release",
        remedy="trapline boot TEST.elf --signature FILE runs one architecture test today",
    )


_behind_dashes: list[str] = []


def _bound(command: str, tokens: Sequence[str]) -> dict[str, Any]:
    """Parse a command line without running it."""
    _, bound, _ = app.parse_args([command, *tokens], print_error=False, exit_on_error=False)
    return dict(bound.arguments)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; every error is one clear line."""
    words = list(sys.argv[1:] if tokens is None else tokens)
    _behind_dashes.clear()
    if words[:1] == ["compare"] and "--" in words:
        at = words.index("--")
        _behind_dashes.extend(words[at + 1 :])
        words = words[:at]
    try:
        return _main(words)
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _main(words: list[str]) -> int:
    from trapline.lab.errors import UsageError
    from trapline.views.data import OutputError

    try:
        command, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
        return int(command(*bound.args, **bound.kwargs) or 0)
    except CycloptsError as error:
        _complain(" ".join(str(error).split()) + " (trapline --help)")
    except (UsageError, OutputError) as error:
        _complain(str(error))
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("TRAPLINE_DEBUG"):
            raise
        _complain(f"internal error: {type(error).__name__}: {error} (TRAPLINE_DEBUG=1 shows where; please report it)")
        return EXIT_FAILED
    return EXIT_USAGE


def _complain(text: str) -> None:
    sys.stderr.write(f"trapline: {text}\n")


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
