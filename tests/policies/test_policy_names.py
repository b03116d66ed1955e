"""Every name, type and number in a policy file is checked: what is wrong, on which line, and what was meant."""

from __future__ import annotations

import pytest

from trapline.policies import PolicyError, parse_policy

WITHOUT_DEFAULT = ('default = "kill"\n[rest]', "[rest]", 'extends = "none"\n[rest]', "a = ")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('without_bug = ["pmu-reads-add-up"]', "there is no bug 'pmu-reads-add-up' here"),
        ('without_feature = ["wrz"]', r"unknown feature 'wrz' \(did you mean wrs"),
        (
            '# one\n[[bug]]\nname = "pmu-reads-add-up"\n[[bug]]\nname = "pmu-read-adds-up"',
            r"line 6: bug 2: name: unknown bug 'pmu-read-adds-up' \(did you mean pmu-reads-add-up",
        ),
        ('[[feature]]\nname = "wsr"', r"line 3: feature 1: name: unknown feature 'wsr' \(did you"),
        ('[[fwft]]\nname = "landing_pads"', r"unknown fwft .*mean landing_pad\?"),
        ('[[tracepoint]]\nname = "kvm_entries"', "mean kvm_entry or"),
        (
            '[cause.2]\naction = "kill"\nfirmware_event = "illegal"',
            r"line 4: cause '2': firmware_event: unknown firmware event 'illegal' \(did you mean illegal-insn",
        ),
        ('[cause.2]\naction = "redirekt"', r"unknown action 'redirekt' \(did you mean redirect"),
        ('[cause.2]\naction = "kill"\ncondition = "cfi"', r"unknown condition 'cfi' \(known: henvcfg-cfi"),
        ('[cause.2]\naction = "kill"\nif_debug = "map"', "if_debug 'map' makes no sense"),
        ('[cause.2]\naction = "kill"\nerno = 5', r"unknown field 'erno' \(did you mean errno"),
        (
            'extends = "linux-7.2"\n[cause.2]\naction = "kill"\ncounters = ["instr_ilegal_exits"]',
            r"cause 'inst-illegal': no \[\[counter\]\] is called 'instr_ilegal_exits' \(did you mean instr_illegal",
        ),
        ('[[counter]]\nname = "wfi_exit_stats"', r"neither KVM nor a rule moves it \(did you mean wfi_exit"),
        ('[[counter]]\nname = "exits"\n[[counter]]\nname = "exits"', "counter 'exits' is given twice"),
        ('[mmio]\ninstructions = ["lww"]', r"line 3: mmio: instructions 1: .*'lww' \(did you mean lw"),
        ('[mmio]\ninstructions = ["amoadd.d"]', r"instruction 'amoadd.d' \(known: c.fld"),
        ('[mmio]\ninstructions = ["lw"]\nmisaligned_errno = 0', "mmio: errno 0"),
        ("default_errno = -1", "default_errno: errno -1"),
        ('[[csr]]\nname = "x"\nfirst = 1\nlast = 1\nemulate = "usr"', r"unknown emulate 'usr' \(did"),
        ('[[csr]]\nname = "x"\nfirst = 1\nlast = 1\nemulate = "user"\nrequires = "zkx"', "mean zkr"),
        ('[[sbi]]\nname = "TIMER"\nfirst = 9\nlast = 9\nmode = "kernel"', r"mean TIME\?"),
        ('default = "kill"\n[rest]\naction = "redirect"', "default 'kill' and rest: action 'redirect' contradict"),
        ('[rest]\naction = "map"', r"line 2: rest: action: unknown action 'map' \(known: redirect, exit, kill"),
        ('[rest]\naction = "kill"\nkeep = ["breakpoint"]', "keep 'breakpoint': what this file extends has no row"),
        ('extends = "none"\n[rest]\naction = "kill"\nkeep = ["breakpont"]', r"unknown cause .*mean breakpoint\?"),
        ("hideleg = 1979-05-27", "line 2: hideleg: expected whole number or nothing, got date"),
        ("cause = 3", "line 2: cause: one table for each cause is expected: 3"),
        ("[cause]\ninst-access = 3", "cause 'inst-access': expected table or list, got whole number"),
        ('[cause."\u00b2"]\naction = "kill"', "unknown cause"),
        (f'[cause.{"9" * 5000}]\naction = "kill"', "unknown cause"),
        (f"hideleg = {'9' * 5000}", "not TOML"),
        (f"hedeleg = 0x{'f' * 99}", "not a 64-bit value"),
        (f"a = {'[' * 3000}{']' * 3000}", "too deeply nested"),
        (f"hedeleg = 1{'0' * 5000}", "not TOML: a number of too many digits"),
        ("hedeleg = 2024-02-31", "not TOML"),
        (f"a = {'{a = ' * 3000}1{'}' * 3000}", "too deeply nested"),
        ('default = "exit"', "not TOML: Cannot overwrite a value"),
        ('[cause.5]\naction = "kill"\n[cause.5]\naction = "kill"', "not TOML: Cannot declare"),
        ('extends = "a\\u0000/b.toml"', "not the name of a file"),
        ('name = "\\u001b[31m"', "name .*can be printed"),
        ('[cause.2]\naction = "kill"\nfunction = "x"', "is not FILE.py:NAME"),
        ('[cause.2]\naction = "kill"\nfunction = "gone.py:f"', "there is no file 'gone.py'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_was_meant(toml: str, message: str) -> None:
    """Each mistake gives one line with place, bad value and the nearest name that exists."""
    text = toml if toml.startswith(WITHOUT_DEFAULT) else f'default = "kill"\n{toml}'
    with pytest.raises(PolicyError, match=message) as caught:
        parse_policy(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
