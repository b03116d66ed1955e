"""Answers to SBI calls that Python has given and that stay what they are: hosted exits give them again.

What a call means is vcpu_sbi's and sbi's alone. Where the answer follows from the call and from what the vCPU is set up
as (Extension.keeps), it is kept in the hart's words, and forgotten once the set-up is another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.lang.functions import cold, inline
from trapline.lang.state import Hart
from trapline.lang.state.words import ANSWERS, LAYOUT
from trapline.lang.values import MASK64, U64
from trapline.sbi.call import Effect, SbiCall, SbiOutcome
from trapline.sbi.numbers import Eid
from trapline.sbi.serve import EXTENSIONS

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

# An entry: 1 + extension (0: none), function, which bits of a0 count, a0, error, value.
WORDS = 6
SPREAD = 0x9E37_79B9_7F4A_7C15  # makes the bits of a call's place depend on all of its words
_FIELD = LAYOUT.fields["kvm_answers"]


@inline
def place_of(eid: U64, fid: U64, argument: U64) -> U64:
    """Where the answer to a call stands."""
    return ((((eid + (fid << 3)) ^ (argument << 1)) * SPREAD) >> 48 & (ANSWERS - 1)) * WORDS


@inline
def stands_at(hart: Hart, at: U64) -> bool:
    """Whether the entry there is of the call in a0, a6 and a7; then the answer is in scratch[2] and [3]."""
    if hart.kvm_answers[at] != hart.x[17] + 1 or hart.kvm_answers[at + 1] != hart.x[16]:
        return False
    if hart.kvm_answers[at] == 0 or (hart.x[10] ^ hart.kvm_answers[at + 3]) & hart.kvm_answers[at + 2] != 0:
        return False
    hart.scratch[2] = hart.kvm_answers[at + 4]
    hart.scratch[3] = hart.kvm_answers[at + 5]
    return True


@cold
def is_kept(hart: Hart) -> bool:
    """Whether the answer to the guest's call is kept: for this a0, or for any."""
    if stands_at(hart, place_of(hart.x[17], hart.x[16], hart.x[10])):
        return True
    return stands_at(hart, place_of(hart.x[17], hart.x[16], U64(0)))


def keep_answer(vcpu: Vcpu, call: SbiCall, outcome: SbiOutcome) -> None:
    """Keep the answer to a call, if it stays the same."""
    extension = EXTENSIONS.get(call.eid)
    if extension is None or outcome.effect is not Effect.RETURN or outcome.legacy:
        return
    if call.eid == Eid.PMU and vcpu.sbi.counters is not None and call.args[0] >= len(vcpu.sbi.counters.counters):
        return  # pmu-info-past-the-end
    number = extension.keeps(call.fid)
    if number is None:
        return
    argument = call.args[0] if number else 0
    entry = call.eid + 1, call.fid, MASK64 if number else 0, argument, outcome.error & MASK64, outcome.value & MASK64
    at = _FIELD.index + int(place_of(U64(call.eid), U64(call.fid), U64(argument)))
    for n, word in enumerate(entry, at):
        vcpu.hart.mem[n] = word


def forget_answers(vcpu: Vcpu) -> None:
    """Forget what is kept if what it follows from is not what it was."""
    config, features = vcpu.config, vcpu.sbi.features
    now = vcpu.sbi.profile, *vcpu.machine_ids, config.hedeleg, config.henvcfg, *[f.enabled for f in features.values()]
    before = vcpu.sbi.answers_of
    if before is None or before[0] is not now[0] or before[1:] != now[1:]:
        vcpu.sbi.answers_of = now
        for at in range(_FIELD.index, _FIELD.index + _FIELD.count, WORDS):
            vcpu.hart.mem[at] = 0
