"""The digests that a start takes are those of hashlib."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from trapline import digest


def test_digests_are_hashlibs() -> None:
    """sha256 and blake2b give what hashlib gives, whole and in parts, and with a digest size."""
    data = bytes(range(256)) * 999
    parts = digest.sha256(data[:7])
    parts.update(data[7:])
    assert parts.hexdigest() == digest.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()
    assert digest.blake2b(data, digest_size=16).digest() == hashlib.blake2b(data, digest_size=16).digest()


def test_a_boot_imports_no_openssl_and_no_compiler() -> None:
    """What a boot imports before it runs has no cyclopts, rich, inspect, OpenSSL, llvmlite and no instruction."""
    code = (
        "import sys; import trapline.cli, trapline.cli.boot, trapline.lab.boot, trapline.engine.native; "
        "import trapline.engine.jit.store, trapline.views.run; "
        "print([m for m in ('cyclopts', 'rich', 'inspect', 'dataclasses', '_hashlib', 'llvmlite', 'trapline.isa.all', "
        "'platform', 'importlib.metadata') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
