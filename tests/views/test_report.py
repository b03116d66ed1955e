"""`trapline report`: one page from results, and the picture of routes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from trapline.cli.main import main
from trapline.conform.conform import Conformance
from trapline.isa.assemble import assemble
from trapline.lab.results import Routes, read_result
from trapline.views.page.bars import Bar, bars
from trapline.views.page.picture import CHARACTER, picture
from trapline.views.page.ways import ways

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e\x00"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A result of each kind, made by the commands."""
    folder = tmp_path_factory.mktemp("results")
    made = {name: folder / f"{name}.json" for name in ("audit", "run", "compare", "route", "before", "nested", "boot")}
    guest = folder / "out" / "fetch-hole-vu.elf"
    event = ["--event", "fetch-hole"]
    bare = folder / "bare.bin"
    bare.write_bytes(bytes.fromhex("73000000") + bytes.fromhex("6f000000"))  # ecall without a handler
    under = ["--host-fwft", "off", "--firmware", "opensbi-1.6"]
    code = main(["audit", "linux-6.12", *under, *event, "--out", str(folder / "out"), "--json", str(made["audit"])])
    assert code == 1
    assert main(["run", str(guest), "--policy", "linux-6.12", "--json", str(made["run"])]) == 1
    assert main(["compare", "linux-6.12", "linux-7.2", "--json", str(made["compare"]), "--", str(guest)]) == 1
    assert main(["route", *event, "--json", str(made["route"])]) == 0
    assert main(["route", "--policy", "linux-6.12", *event, "--json", str(made["before"])]) == 0
    assert main(["route", "--nested", *event, "--json", str(made["nested"])]) == 0
    assert main(["boot", str(bare), "--max-instructions", "1000", "--json", str(made["boot"])]) in (1, 3)
    made["folder"], made["sweep"] = folder / "swept", folder / "sweep.json"
    spec = folder / "sweep.toml"
    spec.write_text('policies = ["linux-6.12", "linux-7.2"]\n[workloads.hole]\nevent = "fetch-hole"\n')
    swept = ["--workers", "1", "--out", str(made["folder"]), "--json", str(made["sweep"])]
    assert main(["sweep", str(spec), *swept]) == 1
    return made


def report(folder: Path, *files: Path) -> str:
    """Return the page that the command makes."""
    target = folder / "report.html"
    assert main(["report", *map(str, files), "-o", str(target)]) == 0
    return target.read_text(encoding="utf-8")


class Texts(HTMLParser):
    """The texts and elements of a page, as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_of_every_kind(results: dict[str, Path], tmp_path: Path) -> None:
    """A report shows every kind of result: its picture, its costs, its death with last traps and walks."""
    seen = Texts(report(tmp_path, *results.values()))
    for wanted in (
        "run: linux-6.12", "compare: ", "route: linux-7.2", "audit: linux-6.12", "boot: ", "guest hypervisor",
        "The death: inst-guest-page-fault from VU", "Last traps", "VS-stage walk of 0x1018000000", "G-stage walk of",
        "CSRs of VS", "kvm: SCAUSE=0x14", "2 matrices of routes side by side", "runs side by side", "killed -95",
        "sweep: ",
    ):  # fmt: skip
        assert wanted in seen.text, wanted
    assert seen.tags.count("h1") == 1
    assert not any(tag == "svg" for tag in seen.tags) or ("role", "img") in seen.attributes


def test_a_page_needs_nothing_else(results: dict[str, Path], tmp_path: Path) -> None:
    """A report has no script and fetches nothing: its links lead into itself."""
    text = report(tmp_path, *results.values())
    seen = Texts(text)
    assert not {"script", "img", "iframe", "object"} & set(seen.tags)
    links = [value for name, value in seen.attributes if name in ("href", "src", "xlink:href")]
    assert all(link.startswith(("#", "data:,")) for link in links)
    ids = [value for name, value in seen.attributes if name == "id"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert len(ids) == len(set(ids))
    assert not re.search(r"url\(|@import|https?://", text)


def test_what_differs_comes_first(results: dict[str, Path], tmp_path: Path) -> None:
    """Two matrices side by side show the events whose routes differ, with both."""
    text = Texts(report(tmp_path, results["before"], results["route"])).text
    at = text.index("Events that differ")
    assert "fetch from a slot's hole" in text[at:] or "fetch from an address without a slot" in text[at:]
    assert text.index("killed -14", at) < text.index("route: linux-7.2", at)


def test_what_was_observed_is_a_table(tmp_path: Path) -> None:
    """A boot with --observe shows its round trips, the costliest first, by the kernel's name; no cost is made up."""
    made, image = tmp_path / "boot.json", tmp_path / "bare.bin"
    loop = "la t0, h; csrw mtvec, t0; 1: ecall; j 1b; .align 2; h: csrr t1, mepc; addi t1, t1, 4; csrw mepc, t1; mret"
    image.write_bytes(assemble(loop, 0x8000_0000))
    assert main(["boot", str(image), "--observe", "--max-instructions", "1000", "--json", str(made)]) == 3
    shown = Texts(report(tmp_path, made)).text
    trips = json.loads(made.read_text())["observed"]["traps"][0]["round_trips"][0]
    assert re.search(f"machine-syscall\\s*M > M\\s*next\\s*{trips['count']}\\s*4\\s*4\\s*4\\s*4\\s*100", shown)
    assert "All 1 route" in shown and "with their costs" not in shown and ": ." not in shown
    made.write_text(made.read_text().replace('"kernel": null', '"kernel": "Image-6.12"'))
    assert "boot: Image-6.12" in Texts(report(tmp_path, made)).text


def test_failures_side_by_side_can_be_told_apart(tmp_path: Path) -> None:
    """What failed under two settings of the host is two rows that say which."""
    files = [tmp_path / f"{policy}.json" for policy in ("linux-6.12", "linux-7.2")]
    for file in files:
        main(["audit", file.stem, "--firmware", "opensbi-1.6", "--event", "fetch-hole", "--json", str(file)])
    shown = Texts(report(tmp_path, *files)).text
    for fwft in ("off", "on"):
        assert shown.count(f"fetch from a slot's hole, opensbi-1.6, host-fwft {fwft}") == 2


def test_the_folder_of_a_sweep_is_a_page(results: dict[str, Path], tmp_path: Path) -> None:
    """A sweep's folder shows its groups, the routes of all runs, and how each run that ended badly is run again."""
    seen = Texts(report(tmp_path, results["folder"])).text
    for wanted in (
        "1 of 2 runs did not end well: killed 1", "Which way the traps took", "All 2 groups", "linux-7.2",
        "VU > M > HS > VMM (kill): killed. inst-access", "Instructions of a run, on average",
        "linux-6.12, hole on opensbi-1.6, seed 0", "trapline run ",
    ):  # fmt: skip
        assert wanted in seen, wanted


def test_sweeps_side_by_side_show_the_groups_that_differ(results: dict[str, Path], tmp_path: Path) -> None:
    """Two sweeps show first the groups whose outcomes are not the same, and those that one has not."""
    data = json.loads(results["sweep"].read_text())
    (was := tmp_path / "was.json").write_text(json.dumps(data))
    first, second = data["groups"]
    first["outcomes"] = {"ok": 1}
    (now := tmp_path / "now.json").write_text(json.dumps(data | {"groups": [first, second | {"workload": "other"}]}))
    text = Texts(report(tmp_path, was, now)).text
    both = text[text.index("Groups whose outcomes differ") : text.index("sweep: ", text.index("Groups whose"))]
    assert "linux-6.12, opensbi-1.6, hole" + "killed" + "ok" in both
    assert "linux-7.2, opensbi-1.6, other" + "-" + "ok" in both
    assert "No group differs." in Texts(report(tmp_path, was, was)).text


@pytest.mark.parametrize("kind", ["run", "compare", "route", "nested", "audit", "boot", "sweep"])
def test_hostile_strings_are_shown_as_they_are(kind: str, results: dict[str, Path], tmp_path: Path) -> None:
    """Any text in a result is text in the page: no element, no control character comes of it."""
    modes = re.compile(r"[a-zA-Z]{1,6}")

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: spoil(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v, key) for v in value]
        keep = key == "by" or (key in ("from", "path", "to", "severity", "property") and modes.fullmatch(str(value)))
        return HOSTILE + value if isinstance(value, str) and not keep else value

    spoilt = tmp_path / "x.json"
    spoilt.write_text(json.dumps(spoil(json.loads(results[kind].read_text()))))
    text = report(tmp_path, spoilt)
    assert "script" not in Texts(text).tags
    assert "<script" not in text
    assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    assert HOSTILE[:25] in Texts(text).text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no JSON"),
        (b'{"policy": "linux-7.2", "routes": [', "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b"[" * 100_000, "no"),
        (b"[1, 2]", "(write one of run, boot, compare, route, audit or sweep with --json FILE)"),
        (b'{"a": 1}', "no result that a report is made of (write one of"),
        (b'{"policy": "x", "routes": [{"cause": "two"}]}', "$.routes[0]"),
        (b'{"policy": "x", "routes": 5}', "$.routes"),
        (b'{"guest": "x", "runs": [{}]}', "$.runs[0]"),
        (b'{"findings": [], "executed": 1, "passed": "maybe"}', "$.passed"),
        (b'{"by": ["colour"], "groups": []}', "$.by[0]"),
        (b'{"by": ["policy"], "groups": [{"units": 1, "outcomes": {"ok": "x"}}]}', "$.groups[0].outcomes"),
        (b'{"traps": [{"cause": 1, "from": "VS", "count": -1}], "reason": "x", "instret": 1}', "$.traps[0].count"),
    ],
)
def test_what_is_no_result(content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is cut off, or that is something else, is one line that names it, and exit code 2."""
    file, target = tmp_path / "x.json", tmp_path / "r.html"
    file.write_bytes(content)
    assert main(["report", str(file), "-o", str(target)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error and "x.json" in error
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "command"),
    [
        ({"costs": []}, "compare --nested"),
        (Conformance().as_data(), "conform"),
        ({"passed": True, "guests": []}, "conform"),
        ({"programs": []}, "pack"),
        ({"sections": [], "programs": {}}, "pack"),
        ([{"kernel": "7.2", "rows": {}, "machine": {}}], "conform --costs"),
        ({"pid": 1, "passed": 0.5, "vcpus": []}, "stat"),
        ({"corpus": 3, "seed": 0, "findings": []}, "fuzz"),
        ({"left": "linux-6.12", "right": "linux-7.2"}, "policies"),
        ([{"name": "linux-6.12", "hedeleg": 0}], "policies"),
        ([{"name": "wrs", "meaning": "", "presets": []}], "policies explain"),
        ([{"name": "linux-7.2", "suites": [], "directory": ""}], "fetch"),
        ({"directory": "", "kinds": {}}, "cache"),
    ],
)
def test_results_without_a_page(data: object, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result of a command of which no report is made is refused in one line that names the command."""
    file = tmp_path / "x.json"
    for text in (json.dumps(data), json.dumps(data) + "\n" + json.dumps(data)):
        file.write_text(text)
        assert main(["report", str(file), "-o", str(tmp_path / "r.html")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"no report is made of what {command} writes" in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "report needs a result"),
        (["missing.json"], "cannot read 'missing.json': No such file"),
        (["."], "no records in '.' (trapline sweep SPEC.toml --out DIR makes them)"),
        (["missing.json", "-o", "no/such/x.html"], "-o: cannot write"),
    ],
)
def test_files_of_a_report(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that cannot be read or written are one line each, found before anything is made."""
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


def test_the_picture_in_the_readme_is_what_the_command_makes(tmp_path: Path) -> None:
    """docs/pictures/route.svg is what the command in docs/route.md draws today."""
    words = "route --policy linux-6.12 --event fetch --picture".split()
    assert f"trapline {' '.join(words)} docs/pictures/route.svg" in (ROOT / "docs/route.md").read_text()
    assert main([*words, str(tmp_path / "route.svg")]) == 0
    assert (tmp_path / "route.svg").read_text() == (ROOT / "docs/pictures/route.svg").read_text()


def test_a_picture_is_an_svg_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another ending than .svg is one line, before anything is executed."""
    assert main(["route", "--picture", str(tmp_path / "x.png")]) == 2
    assert "--picture: cannot draw" in capsys.readouterr().err


def test_lines_are_as_wide_as_their_counts(results: dict[str, Path]) -> None:
    """A way that three times as many traps take is drawn three times as wide, and a kill ends in a cross."""
    content = read_result(str(results["before"])).content
    assert isinstance(content, Routes)
    one = content.routes[0]
    drawn = picture(ways([(one, ("VU", "VS"), 100), (one, ("VU", "HS"), 300)]), "x")
    wide = [float(p.get("stroke-width", 0)) for p in drawn.iter("path") if p.get("class") == "way"]
    assert wide[0] == pytest.approx(3 * wide[1], rel=0.01)
    assert any(p.get("class") == "cross" for p in drawn.iter("path")) == (one.end == "killed")


@pytest.mark.parametrize("width", [320, 1100])
def test_everything_of_a_picture_is_inside(width: int, results: dict[str, Path]) -> None:
    """Nothing of a picture of many ways lies outside it, and every way has its number and its line of words."""
    content = read_result(str(results["nested"])).content
    assert isinstance(content, Routes)
    rows = [
        (r, path, n * n + 1) for r in content.routes for n in range(1, 30) for path in [(*r.path, "M")[: n % 5 + 2]]
    ]
    drawn = picture(ways(rows), "many", width)
    assert float(drawn.get("width", 0)) == width
    for text in drawn.iter("text"):
        long = len("".join(text.itertext())) * 6.65
        x, end = float(text.get("x", 0)), text.get("text-anchor") == "end"
        assert x >= 0 and (x if end else x + long) <= width + 1, ElementTree.tostring(text)
    numbers = [t.text for t in drawn.iter("text") if t.get("class") == "number"]
    assert all(numbers.count(str(n + 1)) == 2 for n in range(len(ways(rows))))


@pytest.mark.parametrize("width", [320, 980])
def test_words_of_bars_are_whole(width: int) -> None:
    """At any width each bar has its whole name, and names and values neither overlap nor leave the plot."""
    rows = [
        Bar(f"{'a cause with many words ' * n}from VS, {end}", {"HS": 10.0**n, "M": 5}, "12.5 %")
        for n in range(3)
        for end in ("resumed", "vmm")
    ]
    lines: dict[float, list[tuple[str, float, float]]] = {}
    for text in bars(rows, "costs", width).iter("text"):
        said = "".join(text.itertext())
        long, x = len(said) * CHARACTER, float(text.get("x", 0))
        left = x - long if text.get("text-anchor") == "end" else x
        assert left >= 0 and left + long <= width
        lines.setdefault(float(text.get("y", 0)), []).append((said, left, left + long))
    assert all(line[0][2] < line[1][1] for line in lines.values() if len(line) == 2)
    names = " ".join(said for line in lines.values() for said, left, _ in line if left == 4)
    assert names == " ".join(row.name for row in rows)


def test_nested_results_have_their_hypervisor_in_the_title(results: dict[str, Path], tmp_path: Path) -> None:
    """A matrix of nested guests is told from that of guests by its title."""
    texts = Texts(report(tmp_path, results["route"], results["nested"])).text
    assert "route: linux-7.2, guest hypervisor " in texts


def browse(folder: Path, page_file: Path) -> tuple[dict[int, int], dict[int, float], list[str]]:
    """Open a page in Chromium in frames of several widths.

    Returns how wide each document is, how large the smallest picture in it is shown, and what the console says.
    """
    frames = "".join(f'<iframe src="{page_file.name}" style="width:{w}px;height:900px"></iframe>' for w in WIDTHS)
    measure = (
        "onload=()=>{const d=[...document.querySelectorAll('iframe')].map(f=>f.contentDocument);"
        "document.body.dataset.w=d.map(f=>f.documentElement.scrollWidth).join();"
        "document.body.dataset.s=d.map(f=>Math.min(9,...[...f.querySelectorAll('svg')].map(s=>"
        "s.getBoundingClientRect().width/s.viewBox.baseVal.width).filter(n=>n))).join()}"
    )
    frame = folder / "frame.html"
    frame.write_text(f'<meta charset="utf-8"><body>{frames}<script>{measure}</script>')
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files", "--enable-logging=stderr",
            "--virtual-time-budget=2000", "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'data-w="([\d,]+)"', done.stdout)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    shown = re.search(r'data-s="([\d.,]+)"', done.stdout)
    assert shown
    sizes = dict(zip(WIDTHS, map(float, shown[1].split(",")), strict=True))
    return dict(zip(WIDTHS, map(int, found[1].split(",")), strict=True)), sizes, console


WIDTHS = (360, 768, 1000, 1160, 1920)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_shows_the_page(results: dict[str, Path], tmp_path: Path) -> None:
    """From 360 to 1920 px nothing is cut off, pictures are as large as drawn, and the console has no error."""
    data = json.loads(results["sweep"].read_text())
    (tmp_path / "long.json").write_text(json.dumps({**data, "spec": f"/{'long' * 60}.toml"}))
    report(tmp_path, *results.values(), tmp_path / "long.json")
    widths, sizes, console = browse(tmp_path, tmp_path / "report.html")
    assert console == []
    assert all(is_ <= asked for asked, is_ in widths.items()), widths
    assert min(sizes.values()) > 0.95, sizes
    (tmp_path / "wrong.html").write_text("<script>nothing.here</script>")
    assert browse(tmp_path, tmp_path / "wrong.html")[2] != []


def test_pages_are_equal_for_equal_results(results: dict[str, Path], tmp_path: Path) -> None:
    """The same results make the same page, byte for byte."""
    assert report(tmp_path, *results.values()) == report(tmp_path, *results.values())
