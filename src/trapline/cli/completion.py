"""`trapline completion`: commands, options, names of presets and firmware, and files on the tab key."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Literal

from trapline.cli.application import app


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the script that completes commands and options in a shell: source <(trapline completion bash).

    Parameters
    ----------
    shell
        bash, zsh or fish.
    """
    from trapline.firmware.models import MODELS
    from trapline.policies.load import policy_names

    words = {"policy": " ".join(policy_names()), "firmware": " ".join(MODELS)}
    script = app.generate_completion(prog_name="trapline", shell=shell)
    sys.stdout.write(_WITH_VALUES[shell](script, words))
    return 0


def _bash(script: str, words: Mapping[str, str]) -> str:
    """What has no names of its own is a file."""
    for option, names in words.items():
        found = f'COMPREPLY=($(compgen -W "{names}" -- "${{cur}}"))'
        script = re.sub(rf"(--{option}\)\n\s+)COMPREPLY=\(\)", rf"\1{found}", script)
    return script.replace("complete -F _trapline", "complete -o bashdefault -o default -F _trapline")


def _zsh(script: str, words: Mapping[str, str]) -> str:
    """A specification that ends with its message completes nothing; a file is completed beside names, too."""
    for option, names in words.items():
        found = f":{{compadd {names}; _files}}'"
        script = re.sub(rf"^(\s+'\*?--{option}\[.*\]:{option})'", rf"\1{found}", script, flags=re.MULTILINE)
    script = re.sub(r"^(\s+'\*?-[^\[]*\[.*\]:[\w-]+)'", r"\1:_files'", script, flags=re.MULTILINE)
    script = re.sub(r"^(\s+'(?:[1-9]|\*):(?:[^:']|\\:|'\\'')+[^:'\\])'", r"\1:_files'", script, flags=re.MULTILINE)
    return script.rstrip() + _ZSH_END


_ZSH_END = """
if [[ $funcstack[1] == _trapline ]]; then
  _cyclopts_trapline "$@"
else
  compdef _cyclopts_trapline trapline
fi
"""  # a file of $fpath, which is run when it is loaded, or a script that is sourced


def _fish(script: str, words: Mapping[str, str]) -> str:
    """The options that take a value complete files already."""
    for option, names in words.items():
        script = re.sub(rf"(-l {option} -r) ", rf"\1 -a '{names}' ", script)
    return script


_WITH_VALUES: dict[str, Callable[[str, Mapping[str, str]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
