"""The parts of a fetch: apt's settings, packages, modules, the initramfs, names."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import pytest
from fake_archive import BUSYBOX, VERSION, deb, index, kernel_files, module, pack, packages, sign

from trapline.cli import main
from trapline.fetch.apt import Apt, Source, parse_options, read_sources
from trapline.fetch.cpio import Cpio
from trapline.fetch.deb import Deb
from trapline.fetch.modules import closure, lists, name_of
from trapline.fetch.signature import Verifier
from trapline.fetch.store import Store, find_kernel, version_key
from trapline.lab.errors import UsageError

Capture = pytest.CaptureFixture[str]
ONE_LINE = """# comment
deb [arch=amd64 signed-by=/keys/debian-archive-keyring.gpg] http://one.invalid/debian trixie main contrib # why
deb-src http://src.invalid/debian trixie main
deb http://security.invalid/ trixie-security main
"""
DEB822 = """Types: deb deb-src
# comment
URIs: http://two.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/other.gpg

Enabled: no
Types: deb
URIs: http://off.invalid/debian
Suites: sid
Components: main
"""


def test_sources_of_both_styles(tmp_path: Path) -> None:
    """One line and deb822 entries are read; sources, disabled ones and comments are not archives."""
    (tmp_path / "a.list").write_text(ONE_LINE)
    (tmp_path / "b.sources").write_text(DEB822)
    one, two = read_sources(tmp_path / "a.list"), read_sources(tmp_path / "b.sources")
    assert [s.uri for s in one + two] == [
        "http://one.invalid/debian", "http://security.invalid/", "http://two.invalid/debian",
    ]  # fmt: skip
    assert one[0] == Source(
        "http://one.invalid/debian", ("trixie",), ("main", "contrib"), Path("/keys/debian-archive-keyring.gpg")
    )
    assert [s.is_debian for s in one + two] == [True, False, True]
    assert Apt((*two, *one)).archive() == one[0]
    assert read_sources(tmp_path / "none.list") == []


def test_a_list_of_mirrors(tmp_path: Path) -> None:
    """mirror+file: names a file whose first address counts; schemes that are none of ours are left out."""
    (tmp_path / "mirrors").write_text("https://three.invalid/debian\n")
    (tmp_path / "a.list").write_text(f"deb mirror+file:{tmp_path}/mirrors trixie main\ndeb cdrom:[disc]/ trixie main\n")
    assert [s.uri for s in read_sources(tmp_path / "a.list")] == ["https://three.invalid/debian"]


def test_proxies() -> None:
    """The proxy of a host goes before that of a scheme; apt's names do not depend on their case."""
    dump = (
        'Acquire "";\nAcquire::HTTP::Proxy "http://proxy.invalid:3128";\n'
        'Acquire::http::Proxy::direct.invalid "DIRECT";\nAcquire::Check-Valid-Until "false";\n'
    )
    apt = Apt((), parse_options(dump))
    assert apt.proxy("http://one.invalid/x") == "http://proxy.invalid:3128"
    assert apt.proxy("http://direct.invalid/x") == "DIRECT"
    assert apt.proxy("https://one.invalid/x") is None
    assert not apt.checks_dates
    assert Apt().checks_dates


def test_the_fake_archive_is_the_same_whenever_it_is_made() -> None:
    """No time of day is in it: a second server offers what the index of the first one promises."""
    assert pack(b"data", ".gz")[4:8] == bytes(4)
    assert index(packages()) == index(packages())


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst", ""])
def test_packages_of_every_compression(tmp_path: Path, suffix: str) -> None:
    """A .deb's files are the same whatever packs them, and only those that are wanted come out."""
    path = tmp_path / "a.deb"
    path.write_bytes(deb("thing", "1", {"usr/a": b"A" * 5000, "usr/b": b"B"}, suffix=suffix))
    assert Deb(path).control()["package"] == "thing"
    assert dict(Deb(path).files(lambda name: name == "usr/a")) == {"usr/a": b"A" * 5000}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: b"MZ" + data, "not a Debian package"),
        (lambda data: data[:-20], "it ends too early"),
        (lambda data: data[:200], "it has no data.tar"),
        (lambda data: data[:-40] + bytes(40), "the package is damaged"),
        (lambda data: data.replace(b"data.tar.xz ", b"data.tar.lz9"), "compression is not supported"),
    ],
)
def test_damaged_packages(tmp_path: Path, spoil: object, says: str) -> None:
    """A file that is no .deb, or only part of one, is one clear line with its name."""
    path = tmp_path / "a.deb"
    path.write_bytes(spoil(deb("thing", "1", {"usr/a": bytes(range(256)) * 20})))  # type: ignore[operator]
    with pytest.raises(UsageError, match=says) as error:
        list(Deb(path).files(lambda name: True))
    assert str(path) in str(error.value)


def test_modules_come_with_what_they_need() -> None:
    """Hard and soft dependencies come along, dependencies first; what is built in is no error."""
    found = closure(kernel_files(), ["ext4", "virtio_mmio"])
    assert [name_of(m.path) for m in found] == ["jbd2", "mbcache", "crc32c", "ext4"]
    text = lists(found)
    assert (
        "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/lib/crc32c.ko\n"
        in text["modules.dep"]
    )
    assert "alias test:ext4 ext4\n" in text["modules.alias"]
    assert found[0].data == module("jbd2")


def test_a_soft_dependency_may_be_what_a_module_offers() -> None:
    """ext4 of 6.12 asks for crypto-crc32c, which no module is called: crc32c_generic comes, and before it."""
    files = {
        "lib/modules/6.12/kernel/fs/ext4.ko": module("ext4", soft="crypto-crc32c"),
        "lib/modules/6.12/kernel/crypto/crc32c_generic.ko": module("crc32c_generic"),
    }
    found = closure(files, ["ext4"])
    assert [name_of(m.path) for m in found] == ["crc32c_generic", "ext4"]
    assert "kernel/fs/ext4.ko: kernel/crypto/crc32c_generic.ko\n" in lists(found)["modules.dep"]


def test_the_initramfs_is_newc() -> None:
    """Directories stand before what is in them, contents start at multiples of 16, the end is marked."""
    archive = Cpio()
    archive.file("a/b/c", b"contents")
    archive.link("a/l", "b/c")
    archive.device("dev/console", 5, 1)
    data = archive.finish()
    members, at = [], 0
    while True:
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11]].split(b"\0")[0].decode()
        start = at + 110 + fields[11] + 3 & ~3
        if name == "TRAILER!!!":
            break
        members.append((name, fields[1] >> 12, data[start : start + fields[6]], start % 16 if name == "a/b/c" else 0))
        at = start + fields[6] + 3 & ~3
    assert members == [
        ("a", 4, b"", 0), ("a/b", 4, b"", 0), ("a/b/c", 8, b"contents", 0), ("a/l", 10, b"b/c", 0),
        ("dev", 4, b"", 0), ("dev/console", 2, b"", 0),
    ]  # fmt: skip
    assert len(data) % 512 == 0


def test_given_files(capsys: Capture, cache: Path, tmp_path: Path) -> None:
    """With --from nothing is downloaded, and the result says that nobody checked where the files come from."""
    paths = []
    for name, data in packages().items():
        if not name.startswith("linux-image-riscv64"):
            paths.append(str(tmp_path / name))
            (tmp_path / name).write_bytes(data)
    assert main(["fetch", "linux", "--from", *paths]) == 0
    out = capsys.readouterr().out
    assert "trapline run linux-6.12" in out
    assert "nobody checked where they come from" in out
    assert BUSYBOX in (cache / "kernels" / f"linux-{VERSION}" / "initramfs.cpio").read_bytes()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.deb": deb("coreutils", "1", {"x": b""})}, "package 'coreutils' is no kernel, OpenSBI or busybox-static"),
        ({"a.deb": deb("busybox-static", "1", {"x": b""}, "amd64")}, "it is for amd64, not riscv64"),
        ({"a.deb": b"nothing"}, "not a Debian package"),
        ({"a.deb": deb("linux-image-6", "1", {"boot/other": b""})}, "nothing of linux is in it"),
        ({"a.deb": deb("linux-image-6", "1", kernel_files())}, "the initramfs needs busybox"),
        (
            {"a.deb": deb("linux-image-6", "1", {**kernel_files(), "lib/modules/1/kvm.ko.xz": b"no xz"})},
            "a kernel module is damaged xz data",
        ),
        ({}, "there is no such file"),
    ],
)
def test_given_files_that_will_not_do(
    capsys: Capture, cache: Path, tmp_path: Path, files: dict[str, bytes], says: str
) -> None:
    """A file that is not what --from needs is named, with what is needed."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert main(["fetch", "linux", "--from", str(tmp_path / "a.deb")]) == 2
    assert says in capsys.readouterr().err


def test_a_kernel_without_kvm(capsys: Capture, cache: Path, tmp_path: Path) -> None:
    """A kernel with neither kvm.ko nor KVM built in can be no host, and the result says so."""
    files = {path: data for path, data in kernel_files().items() if not path.endswith("/kvm.ko.xz")}
    for config, says in ((b"# CONFIG_KVM is not set\n", True), (b"CONFIG_A=y\nCONFIG_KVM=y\n", False)):
        files[f"boot/config-{VERSION}"] = config
        (tmp_path / "linux.deb").write_bytes(deb(f"linux-image-{VERSION}", "1", files))
        (tmp_path / "busybox.deb").write_bytes(deb("busybox-static", "1", {"usr/bin/busybox": BUSYBOX}))
        assert main(["fetch", "linux", "--from", str(tmp_path / "linux.deb"), str(tmp_path / "busybox.deb")]) == 0
        assert ("has no kvm.ko: it can be a guest, not a host" in capsys.readouterr().out) is says


def _kernels(root: Path, *versions: str) -> Store:
    store = Store(root)
    root.mkdir(exist_ok=True)
    for version in versions:
        with store.new(f"linux-{version}", {"version": version, "key": version, "kind": "linux"}) as directory:
            (directory / "Image").write_bytes(b"x")
            (directory / "initramfs.cpio").write_bytes(b"x")
    return store


def test_names_of_kernels(tmp_path: Path) -> None:
    """linux is the newest; a version, its beginning, or a suite's name choose another; other words mean none."""
    store = _kernels(tmp_path, "6.12.9+deb13-riscv64", "6.12.107+deb13-riscv64", "7.2.1+deb14-riscv64")
    store.set_suite("trixie", {"linux": "linux-6.12.107+deb13-riscv64"})

    def version(name: str) -> str:
        kernel = find_kernel(name, store)
        assert kernel is not None
        return kernel.version

    assert version("linux") == "7.2.1+deb14-riscv64"
    assert version("linux-6.12") == version("linux-trixie") == "6.12.107+deb13-riscv64"
    assert version("linux-6.12.9") == "6.12.9+deb13-riscv64"
    assert find_kernel("uboot.elf", store) is None
    with pytest.raises(UsageError, match=r"no such kernel has been fetched \(there: linux-7.2, linux-6.12\)"):
        find_kernel("linux-5", store)
    assert version_key("6.12") > version_key("6.9")


def test_a_name_before_anything_was_fetched(capsys: Capture, cache: Path) -> None:
    """`run linux` and `boot linux` on an empty cache name the command that fills it."""
    for command in ("run", "boot"):
        assert main([command, "linux"]) == 2
        assert "trapline fetch linux" in capsys.readouterr().err


def test_a_kernel_without_firmware(capsys: Capture, cache: Path) -> None:
    """`boot linux` needs OpenSBI, and says how to get it."""
    cache.mkdir()
    _kernels(cache / "kernels", "6.12.9")
    assert main(["boot", "linux"]) == 2
    assert "trapline fetch opensbi" in capsys.readouterr().err


def test_a_damaged_stream() -> None:
    """Compressed data that ends early is an error that names its kind."""
    from trapline.machine.load.packed import DamagedError, PackedReader, unpack

    for kind, data in (("xz", lzma.compress(b"x" * 999)), ("zstd", pack(b"x" * 999, ".zst"))):
        assert unpack(data, kind) == b"x" * 999
        with pytest.raises(DamagedError, match=f"damaged {kind} data"):
            unpack(data[:-4], kind)
    with pytest.raises(DamagedError):
        PackedReader(io.BytesIO(b"nothing like it"), "zstd").read()


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("[GNUPG:] NO_PUBKEY 01AB\n[GNUPG:] NO_PUBKEY 02CD\n", "no public key 01AB, 02CD"),
        ("[GNUPG:] EXPKEYSIG 01AB Old Key\n[GNUPG:] VALIDSIG 01AB\n", "expired key: Old Key"),
        ("[GNUPG:] REVKEYSIG 01AB Lost Key\n[GNUPG:] VALIDSIG 01AB\n", "revoked key: Lost Key"),
        (
            "[GNUPG:] GOODSIG 01AB Good Key\n[GNUPG:] VALIDSIG 01AB\n[GNUPG:] BADSIG 02CD Bad Key\n",
            "BAD signature of Bad",
        ),
        ("", "there is none that this keyring knows"),
    ],
)
def test_what_a_verifier_says(tmp_path: Path, status: str, says: str) -> None:
    """Only a good signature of a known key passes, and none that is bad; anything else is said in words."""
    command = tmp_path / "gpgv"
    command.write_text(f"#!/bin/sh\ncat <<'EOF'\n{status}EOF\n")
    command.chmod(0o755)
    with pytest.raises(UsageError, match=says):
        Verifier(str(command), tmp_path / "keys").inline(sign(b"Suite: x\n", b"key"))


def test_sqv_checks_a_detached_signature(tmp_path: Path) -> None:
    """With sqv alone Release.gpg is asked for; its exit code decides."""
    for code, good in ((0, True), (1, False)):
        command = tmp_path / "sqv"
        command.write_text(f"#!/bin/sh\necho 0123; echo 'no valid signature' >&2; exit {code}\n")
        command.chmod(0o755)
        verifier = Verifier(str(command), tmp_path / "keys")
        assert not verifier.takes_inline
        if good:
            assert verifier.detached(b"text", b"signature") == "0123"
        else:
            with pytest.raises(UsageError, match="no valid signature"):
                verifier.detached(b"text", b"signature")


def test_the_initramfs_configures_what_it_finds() -> None:
    """The first process loads the modules that virtio devices name; udhcpc has the script that it calls."""
    from trapline.fetch.ramdisk import base_archive

    archive = base_archive(b"busybox")
    assert b"/sys/bus/virtio/devices/*/modalias" in archive and b"bin/udhcpc\0" in archive
    for folder in (b"usr/share", b"etc"):
        assert folder + b"/udhcpc/default.script\0" in archive
