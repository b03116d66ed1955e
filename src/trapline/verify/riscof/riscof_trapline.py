"""trapline for riscof, as the device under test and as the reference: compile a test, run it, keep its signature.

riscof looks for this file by its name, and for a class of the plugin's name. Of config.ini it reads, beside
`pluginpath`, `ispec` and `pspec`: PATH (where `trapline` is), compiler, isa, misaligned, jobs, timeout (in seconds)
and target_run.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from riscof.pluginTemplate import pluginTemplate

logger = logging.getLogger()
COMPILERS = ("riscv64-unknown-elf-gcc", "riscv64-linux-gnu-gcc")


class trapline(pluginTemplate):  # type: ignore[misc]  # noqa: N801  (riscof asks for this name)
    """The plugin; one object for each role."""

    __model__ = "trapline"
    __version__ = "0.1"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read the plugin's part of config.ini; SystemExit says what is missing."""
        super().__init__(*args, **kwargs)
        config: dict[str, str] = kwargs.get("config") or {}
        for name in ("pluginpath", "ispec", "pspec"):
            if name not in config:
                raise SystemExit(f"config.ini: [trapline] needs {name}")
        self.pluginpath = Path(config["pluginpath"]).resolve()
        self.isa_spec, self.platform_spec = (str(Path(config[name]).resolve()) for name in ("ispec", "pspec"))
        self.command = _command(config.get("path") or config.get("PATH"))
        self.compiler = config.get("compiler") or next(filter(shutil.which, COMPILERS), "")
        if not self.compiler:
            raise SystemExit(f"no compiler: install one of {', '.join(COMPILERS)}, or give config.ini a compiler=")
        self.options = [f"--{n}={config[n]}" for n in ("isa", "misaligned") if config.get(n)]
        self.jobs, self.timeout = int(config.get("jobs", "1")), float(config.get("timeout", "300"))
        self.target_run = config.get("target_run", "1") != "0"

    def initialise(self, suite: str, work_dir: str, archtest_env: str) -> None:
        """Keep where the suite's headers are."""
        self.work_dir, self.suite, self.env = work_dir, suite, archtest_env

    def build(self, isa_yaml: str, platform_yaml: str) -> None:
        """Nothing is built: trapline's hart is RV64."""

    def runTests(self, testList: dict[str, dict[str, Any]]) -> None:  # noqa: N802, N803  (riscof's names)
        """Compile and run each test; a test that ends otherwise than well leaves what it wrote in trapline.log."""
        with ThreadPoolExecutor(self.jobs) as pool:
            for name, said in zip(testList, pool.map(self._test, testList.values()), strict=True):
                if said:
                    logger.error(f"{name}: {said}")
        if not self.target_run:
            raise SystemExit(0)

    def _test(self, test: dict[str, Any]) -> str:
        """Return what went wrong, or nothing."""
        folder = Path(test["work_dir"])
        elf, signature = folder / f"{self.name[:-1]}.elf", folder / f"{self.name[:-1]}.signature"
        macros = [f"-D{macro}" for macro in test["macros"]]
        build = [
            *shlex.split(self.compiler), f"-march={test['isa'].lower()}", "-mabi=lp64", "-static", "-mcmodel=medany",
            "-fvisibility=hidden", "-nostdlib", "-nostartfiles", "-Wl,--build-id=none",
            f"-T{self.pluginpath}/env/link.ld",
            f"-I{self.pluginpath}/env", f"-I{self.env}", *macros, test["test_path"], "-o", str(elf),
        ]  # fmt: skip
        run = [
            *self.command, "boot", *self.options, "--signature", str(signature), "--signature-granularity", "4",
            "--max-seconds", f"{self.timeout:g}", str(elf),
        ]  # fmt: skip
        with (folder / f"{self.name[:-1]}.log").open("wb") as log:
            for command in (build, *([run] if self.target_run else [])):
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
                if done.returncode:
                    return f"{Path(command[0]).name} ended with {done.returncode}; see {log.name}"
        return ""


def _command(folder: str | None) -> list[str]:
    """Return how trapline is started: from a directory, from PATH, or with this Python."""
    found = shutil.which("trapline", path=folder) if folder else shutil.which("trapline")
    return [found] if found else [sys.executable, "-m", "trapline"]
