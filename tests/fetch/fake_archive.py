"""A tiny Debian archive on a local HTTP server, signed by a stand-in for gpgv that needs nothing but Python."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import lzma
import sys
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import zstandard

VERSION = "6.12.9+test-riscv64"
IMAGE = b"MZ" + bytes(62) + b"an image" * 4000
BUSYBOX = b"\x7fELF busybox" * 500


def module(name: str, depends: str = "", soft: str = "") -> bytes:
    """What a module looks like to whoever reads its .modinfo."""
    soft = f"softdep=pre: {soft}\0" if soft else ""
    return f"\x7fELF\0license=GPL\0depends={depends}\0{soft}alias=test:{name}\0name={name}\0".encode()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files, with ./ before each name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pack(data: bytes, suffix: str) -> bytes:
    """Compress as a file of that suffix is."""
    return {
        ".xz": lzma.compress,
        ".gz": lambda raw: gzip.compress(raw, mtime=0),  # the same bytes whenever it is made
        ".zst": zstandard.ZstdCompressor().compress,
        "": bytes,
    }[suffix](data)


def deb(
    package: str, version: str, files: Mapping[str, bytes], architecture: str = "riscv64", suffix: str = ".xz"
) -> bytes:
    """A .deb file."""
    control = f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n".encode()
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": pack(tar({"control": control}), ".gz"),
        f"data.tar{suffix}": pack(tar(files), suffix),
    }
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def kernel_files() -> dict[str, bytes]:
    """What a kernel's package holds."""
    root = f"usr/lib/modules/{VERSION}/kernel"
    return {
        f"boot/vmlinux-{VERSION}": IMAGE,
        f"boot/config-{VERSION}": b"CONFIG_KVM=m\n",
        f"boot/System.map-{VERSION}": b"the real one is elsewhere\n",
        f"{root}/arch/riscv/kvm/kvm.ko.xz": lzma.compress(module("kvm")),
        f"{root}/fs/ext4/ext4.ko.xz": lzma.compress(module("ext4", "jbd2,mbcache", "crc32c")),
        f"{root}/fs/jbd2/jbd2.ko.xz": lzma.compress(module("jbd2")),
        f"{root}/fs/mbcache.ko": module("mbcache"),
        f"{root}/lib/crc32c.ko.gz": pack(module("crc32c"), ".gz"),
        f"{root}/sound/noise.ko.xz": lzma.compress(module("noise")),
    }


def packages() -> dict[str, bytes]:
    """The .deb files of the archive, by name: a kernel behind its meta package, firmware, busybox."""
    generic = "usr/lib/riscv64-linux-gnu/opensbi/generic"
    return {
        "linux-image-riscv64_6.12.9-1_riscv64.deb": deb("linux-image-riscv64", "6.12.9-1", {}),
        f"linux-image-{VERSION}_6.12.9-1_riscv64.deb": deb(f"linux-image-{VERSION}", "6.12.9-1", kernel_files()),
        "opensbi_1.6-1_all.deb": deb("opensbi", "1.6-1", {f"{generic}/fw_dynamic.bin": b"firmware"}, "all"),
        "busybox-static_1.37.0-6_riscv64.deb": deb("busybox-static", "1:1.37.0-6", {"usr/bin/busybox": BUSYBOX}),
    }


def stanza(file: str, data: bytes) -> str:
    name, version = file.split("_")[:2]
    depends = f"Depends: linux-image-{VERSION} (= 6.12.9-1)\n" if name == "linux-image-riscv64" else ""
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: riscv64\n{depends}Filename: pool/{file}\n"
        f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\nDescription: one\n two\n\n"
    )


def sign(text: bytes, key: bytes) -> bytes:
    """A clear-signed text, for the stand-in."""
    mark = hmac.new(key, text, "sha256").hexdigest().encode()
    return (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + text
        + b"-----BEGIN PGP SIGNATURE-----\n\n" + mark + b"\n-----END PGP SIGNATURE-----\n"
    )  # fmt: skip


_GPGV = """#!{python}
import hmac, sys
words = sys.argv[1:]
key = open(words[words.index("--keyring") + 1], "rb").read()
signed = open(words[-1], "rb").read()
text = signed.partition(b"\\n\\n")[2].partition(b"-----BEGIN PGP SIGNATURE")[0]
mark = signed.partition(b"SIGNATURE-----\\n\\n")[2].split(b"\\n")[0].decode()
good = hmac.new(key, text, "sha256").hexdigest() == mark
if "--output" in words:
    open(words[words.index("--output") + 1], "wb").write(text)
if good:
    print("[GNUPG:] GOODSIG 0123 Test Key <test@example>\\n[GNUPG:] VALIDSIG 0123")
else:
    print("[GNUPG:] BADSIG 0123 Test Key")
    sys.stderr.write("gpgv: BAD signature from \\"Test Key\\"\\n")
sys.exit(0 if good else 1)
"""


def install_gpgv(directory: Path) -> Path:
    """Write the stand-in into a directory for PATH."""
    directory.mkdir(exist_ok=True)
    path = directory / "gpgv"
    path.write_text(_GPGV.format(python=sys.executable))
    path.chmod(0o755)
    return path


def index(files: Mapping[str, bytes], suite: str = "trixie", extra: str = "", by_hash: bool = True) -> dict[str, bytes]:
    """The files of an archive by path: pool, Packages.xz (by its hash), and the text of Release."""
    listing = "".join(stanza(name, data) for name, data in files.items()).encode()
    packed = lzma.compress(listing)
    digest = hashlib.sha256(packed).hexdigest()
    directory = f"dists/{suite}/main/binary-riscv64"
    release = (
        f"Origin: Debian\nSuite: stable\nCodename: {suite}\nArchitectures: all amd64 riscv64\n{extra}"
        f"Acquire-By-Hash: {'yes' if by_hash else 'no'}\nSHA256:\n"
        f" {digest} {len(packed)} main/binary-riscv64/Packages.xz\n"
    )
    where = f"{directory}/by-hash/SHA256/{digest}" if by_hash else f"{directory}/Packages.xz"
    return {
        **{f"pool/{name}": data for name, data in files.items()},
        where: packed,
        f"dists/{suite}/Release": release.encode(),
    }


@dataclass
class Server:
    """An HTTP server for files in memory that can misbehave."""

    files: dict[str, bytes]
    cut: dict[str, int] = field(default_factory=dict)  # path: bytes after which the connection ends, once
    stall: dict[str, int] = field(default_factory=dict)  # path: bytes after which nothing comes any more
    ranges: bool = True
    log: list[tuple[str, str]] = field(default_factory=list)  # path, Range

    def __post_init__(self) -> None:
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        path, wanted = request.path.lstrip("/"), request.headers.get("Range", "")
        self.log.append((path, wanted))
        data = self.files.get(path)
        if data is None:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        body = data[start:]
        if path in self.stall:
            request.wfile.write(body[: self.stall[path]])
            request.wfile.flush()
            self.release.wait(30)
            request.close_connection = True
        elif path in self.cut:
            request.wfile.write(body[: self.cut.pop(path)])
            request.close_connection = True
        else:
            request.wfile.write(body)

    def close(self) -> None:
        """Stop."""
        self.release.set()
        self.http.shutdown()
        self.http.server_close()
