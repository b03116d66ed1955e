"""`trapline fetch` against a signed archive: what it brings, what it refuses, what it says."""

from __future__ import annotations

import json
import lzma
import socket
from pathlib import Path

import pytest
from fake_archive import BUSYBOX, IMAGE, VERSION, Server, deb, index, module, packages, sign, stanza

from trapline.cli import main
from trapline.fetch.store import Store

Capture = pytest.CaptureFixture[str]
DEB = f"pool/linux-image-{VERSION}_6.12.9-1_riscv64.deb"


def run(capsys: Capture, *words: str) -> tuple[int, str, str]:
    """Run a command line; return its exit code, standard output and standard error."""
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def complaint(err: str) -> str:
    """The one line that begins with the program's name and is no progress."""
    lines = [line for line in err.splitlines() if line.startswith("trapline: ") and not line.endswith("MB)")]
    assert len(lines) == 1, err
    return lines[0]


def test_a_kernel_with_all_it_boots_with(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """Kernel, firmware and initramfs are in the cache, and the command lines that use them are shown."""
    code, out, _ = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 0
    kernel = cache / "kernels" / f"linux-{VERSION}"
    assert (kernel / "Image").read_bytes() == IMAGE
    assert (kernel / "config").read_text() == "CONFIG_KVM=m\n"
    assert not (kernel / "System.map").exists()
    assert (kernel / "kvm.ko").read_bytes() == module("kvm")
    initramfs = (kernel / "initramfs.cpio").read_bytes()
    assert BUSYBOX in initramfs
    assert b"kernel/fs/jbd2/jbd2.ko" in initramfs
    assert b"noise" not in initramfs
    assert (cache / "kernels" / "opensbi-1.6-1" / "fw_dynamic.bin").read_bytes() == b"firmware"
    assert "signed by Test Key; every SHA256 is right" in out
    assert "  trapline run linux-6.12\n" in out
    assert "  trapline boot linux-6.12\n" in out
    assert f"trapline run {kernel / 'Image'} --initrd {kernel / 'initramfs.cpio'} --append 'console" in out
    assert not list((cache / "kernels" / "downloads").glob("*.deb*"))


def test_json_names_the_files(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """With --json the paths are data."""
    code, out, _ = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring, "--json", "-")
    data = json.loads(out)
    assert code == 0
    assert (data["suite"], data["signed_by"], data["name"]) == ("trixie", "Test Key", "linux-6.12")
    assert all(Path(data[key]).is_file() for key in ("kernel", "initrd", "bios"))


def test_nothing_is_fetched_twice(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """A second run asks for the signed index alone."""
    words = ("fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert run(capsys, *words)[0] == 0
    server.log.clear()
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert out.count("was there already") == 3
    assert [path for path, _ in server.log] == ["dists/trixie/InRelease"]


def test_a_new_version(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """When the archive has a newer firmware, it is fetched beside the old one."""
    words = ("fetch", "opensbi", "--mirror", server.url, "--keyring", keyring)
    run(capsys, *words)
    path = "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin"
    server.files.update(index({"opensbi_1.7-1_all.deb": deb("opensbi", "1.7-1", {path: b"newer"}, "all")}))
    server.files["dists/trixie/InRelease"] = sign(server.files["dists/trixie/Release"], Path(keyring).read_bytes())
    assert "1.7-1   fetched" in run(capsys, *words)[1]
    found = {p.parent.name: p.read_bytes() for p in (cache / "kernels").glob("opensbi-*/fw_dynamic.bin")}
    assert found == {"opensbi-1.6-1": b"firmware", "opensbi-1.7-1": b"newer"}


def test_the_list(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """`fetch list` says what is there and how to call it."""
    assert "nothing has been fetched yet" in run(capsys, "fetch", "list")[1]
    run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    out = run(capsys, "fetch", "list")[1]
    assert "linux-6.12" in out
    assert "trixie" in out
    rows = json.loads(run(capsys, "fetch", "list", "--json", "-")[1])
    assert [row["kind"] for row in rows] == ["linux", "opensbi", "busybox"]


def test_a_bad_signature(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """An index that somebody changed is refused, and nothing of it is kept."""
    server.files["dists/trixie/InRelease"] = server.files["dists/trixie/InRelease"].replace(b"amd64", b"arm64")
    code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert "signature is not good (BAD signature of Test Key)" in complaint(err)
    assert not list((cache / "kernels").glob("[a-z]*-*"))


def test_text_around_the_signed_one(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """Unsigned lines before or behind the signed text are refused: nobody vouches for them."""
    signed = server.files["dists/trixie/InRelease"]
    for spoilt in (b"Suite: stable\n\n" + signed, signed * 2):
        server.files["dists/trixie/InRelease"] = spoilt
        code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
        assert code == 2
        assert "not one clear-signed text" in complaint(err)


def test_no_verifier(capsys: Capture, server: Server, cache: Path, keyring: str, tmp_path: Path) -> None:
    """Without gpgv and sqv the error names what to install; the switch goes on without, and says so."""
    (tmp_path / "bin" / "gpgv").unlink()
    words = ("fetch", "busybox", "--mirror", server.url)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "install gpgv" in complaint(err)
    assert "--no-verify-signature" in err
    code, out, _ = run(capsys, *words, "--no-verify-signature")
    assert code == 0
    assert "NOT checked" in out


def test_no_keyring(capsys: Capture, server: Server, cache: Path) -> None:
    """A keyring that is not there is named."""
    code, _, err = run(capsys, "fetch", "busybox", "--mirror", server.url, "--keyring", "/no/such/keyring")
    assert code == 2
    assert "no keyring '/no/such/keyring'" in complaint(err)


@pytest.mark.parametrize("path", [DEB, "Packages"])
def test_a_damaged_file(capsys: Capture, server: Server, cache: Path, keyring: str, path: str) -> None:
    """A file that is not what the signed index promises is refused, whatever it is."""
    name = next(p for p in server.files if p == path or ("by-hash" in p and path == "Packages"))
    server.files[name] = server.files[name][:-1] + b"!"
    code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert "is not what the archive's index promises" in complaint(err)
    assert Store().kernels() == []


def test_without_a_network(capsys: Capture, cache: Path, keyring: str) -> None:
    """When nobody answers, one line says so."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code, _, err = run(capsys, "fetch", "linux", "--mirror", url, "--keyring", keyring)
    assert code == 2
    assert "cannot get /dists/trixie/InRelease from 127.0.0.1" in complaint(err)
    assert "refused" in err


def test_without_a_network_but_with_a_kernel(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """When an earlier run brought a kernel, the error says how to run that."""
    words = ("fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert run(capsys, *words)[0] == 0
    server.close()
    code, _, err = run(capsys, *words)
    assert code == 2
    assert f"({VERSION} of an earlier fetch is there: trapline run linux-6.12)" in complaint(err)


def test_an_unknown_name(capsys: Capture, cache: Path, keyring: str) -> None:
    """A host that does not exist is named with the reason."""
    code, _, err = run(capsys, "fetch", "linux", "--mirror", "http://mirror.invalid/debian", "--keyring", keyring)
    assert code == 2
    assert "from mirror.invalid" in complaint(err)


@pytest.mark.parametrize(
    ("suite", "extra", "says"),
    [
        ("sid", "", "no suite 'sid' there"),
        ("trixie", "Valid-Until: Sat, 01 Jan 2000 00:00:00 UTC\n", "expired on Sat, 01 Jan 2000"),
    ],
)
def test_a_suite_that_will_not_do(
    capsys: Capture, server: Server, cache: Path, keyring: str, suite: str, extra: str, says: str
) -> None:
    """A suite that is not there, or an index past its date, is one clear line."""
    files = index(packages(), extra=extra)
    server.files["dists/trixie/InRelease"] = sign(files["dists/trixie/Release"], Path(keyring).read_bytes())
    code, _, err = run(capsys, "fetch", "linux", "--suite", suite, "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert says in complaint(err)


def test_another_suites_index(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """A mirror cannot pass off one suite as another."""
    server.files["dists/sid/InRelease"] = server.files["dists/trixie/InRelease"]
    code, _, err = run(capsys, "fetch", "linux", "--suite", "sid", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert "says suite 'stable' (trixie), not 'sid'" in complaint(err)


def test_a_suite_without_riscv64(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """An older release has no packages for riscv64."""
    text = server.files["dists/trixie/Release"].replace(b" riscv64\n", b"\n")
    server.files["dists/trixie/InRelease"] = sign(text, Path(keyring).read_bytes())
    code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert "has no riscv64 packages" in complaint(err)


def test_an_archive_without_by_hash(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """Mirrors that do not keep indexes by their hash work too."""
    server.files.clear()
    server.files.update(index(packages(), by_hash=False))
    server.files["dists/trixie/InRelease"] = sign(server.files["dists/trixie/Release"], Path(keyring).read_bytes())
    assert run(capsys, "fetch", "busybox", "--mirror", server.url, "--keyring", keyring)[0] == 0


def test_no_space(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """A full disk is one line, and the cache stays as it was."""
    (cache / "kernels" / "downloads").mkdir(parents=True)
    name = f"linux-image-{VERSION}_6.12.9-1_riscv64.deb"
    (cache / "kernels" / "downloads" / f"{name}.part").symlink_to("/dev/full")
    code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert "no space left on the disk of the cache" in complaint(err)
    assert Store().kernels() == []


def test_a_cache_that_cannot_be_made(
    capsys: Capture, server: Server, keyring: str, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cache below a file is one line that names it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path / "file"))
    code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert f"{tmp_path / 'file'}/kernels" in complaint(err)


def test_wrong_words(capsys: Capture, cache: Path) -> None:
    """What cannot be fetched, and a mirror that is no address, are refused at once."""
    assert run(capsys, "fetch", "windows")[0] == 2
    code, _, err = run(capsys, "fetch", "linux", "--mirror", "somewhere", "--no-verify-signature")
    assert code == 2
    assert "is not an address" in complaint(err)


def test_without_apt(capsys: Capture, cache: Path, tmp_path: Path) -> None:
    """On a machine whose apt knows no Debian archive the error names the two ways on."""
    from trapline.fetch.apt import Apt
    from trapline.fetch.fetch import FetchOptions, fetch
    from trapline.lab.errors import UsageError

    with pytest.raises(UsageError, match=r"no Debian archive \(--mirror URL .* --from FILE.deb\)"):
        fetch(FetchOptions("linux"), apt=Apt())


def test_the_index_is_compressed_data(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """An index whose hash is right and whose contents are not xz is one line."""
    path = next(p for p in server.files if "by-hash" in p)
    assert lzma.decompress(server.files[path])
    text = server.files["dists/trixie/Release"].replace(b".xz", b".gz")
    server.files["dists/trixie/InRelease"] = sign(text, Path(keyring).read_bytes())
    code, _, err = run(capsys, "fetch", "linux", "--mirror", server.url, "--keyring", keyring)
    assert code == 2
    assert "cannot be unpacked" in complaint(err)


def backports(server: Server, keyring: str, *, old: bool = False) -> None:
    """Lay a suite of backports, with a kernel and nothing else, over trixie; its index is `old` or right."""
    files = index({n: d for n, d in packages().items() if n.startswith("linux-")}, "trixie-backports")
    if old:
        path = next(p for p in files if "by-hash" in p)
        del files[path]
        files["dists/trixie-backports/main/binary-riscv64/Packages.xz"] = lzma.compress(
            b"".join(stanza(n, d).encode() for n, d in packages().items() if n.startswith("linux-"))
            + stanza("older_1_all.deb", b"older").encode()
        )
    files["dists/trixie-backports/InRelease"] = sign(
        files["dists/trixie-backports/Release"], Path(keyring).read_bytes()
    )
    server.files.update(files)


def test_backports_lie_over_their_release(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """A kernel of backports comes with the firmware and the busybox of the release under it."""
    backports(server, keyring)
    words = ("fetch", "linux", "--suite", "trixie-backports", "--mirror", server.url, "--keyring", keyring)
    code, _, _ = run(capsys, *words)
    assert code == 0
    kernel = Store().kernels()[0]
    assert kernel.suites == ("trixie-backports",)
    assert kernel.bios is not None
    assert kernel.bios.read_bytes() == b"firmware"


def test_a_half_updated_archive(capsys: Capture, server: Server, cache: Path, keyring: str) -> None:
    """An index that is older than Release is one line with both sizes; the switch takes it and says so."""
    backports(server, keyring, old=True)
    words = ("fetch", "linux", "--suite", "trixie-backports", "--mirror", server.url, "--keyring", keyring)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "Packages.xz by its hash is not there; Packages.xz: the archive has a file of" in complaint(err)
    assert "half updated" in complaint(err)
    code, out, _ = run(capsys, *words, "--no-verify-signature")
    assert code == 0
    assert "NOT the one that its Release" in " ".join(out.split())
    assert Store().kernels()[0].suites == ("trixie-backports",)
