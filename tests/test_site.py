"""The documentation site: it builds strictly without network, and links lead somewhere on it and on GitHub."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import prunebench
from bench.interface import registry
from tests.pages import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
NO_NETWORK = """
import socket, sys
def refuse(*_, **__):
    raise OSError("a build of the site reached for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(["build", "--strict", "--site-dir", sys.argv[1]])  # --quiet would keep warnings from being counted
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; any warning would have ended the build."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
    return folder


def build(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", NO_NETWORK, str(folder)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_slips_end_the_build(tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(ROOT / "docs", root / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, root / name)
    for name in ("bench", "methods", "reports", "CITATION.cff"):
        (root / name).symlink_to(ROOT / name)
    slips = ["nowhere.md", "protocol.md#nowhere", "../methods/nowhere.py", "../reports/studies"]
    with (root / "docs" / "faults.md").open("a", encoding="utf-8") as page:
        page.writelines(f"\n[a slip]({slip})\n" for slip in slips)
    (root / "docs" / "forgotten.md").write_text("# No line of the navigation leads here\n")
    done = build(root, tmp_path / "site")
    assert done.returncode != 0
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line or line.startswith("  -")]
    for slip in [*slips, "forgotten.md"]:
        assert any(slip in line for line in warnings), f"{slip}: {done.stderr}"
    assert "warnings in strict mode" in done.stdout + done.stderr


class Seen(HTMLParser):
    """What a page loads, what it leads to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given or tag == "link":
            self.loads.append(given.get("src") or given.get("href", ""))
        elif tag == "a" and "href" in given:
            self.leads.append(given["href"])


def seen(path: Path) -> Seen:
    return Seen(path.read_text("utf-8"))


def test_pages_load_nothing_from_elsewhere_and_link_to_what_is_there(site: Path) -> None:
    pages = {path.resolve(): seen(path) for path in site.glob("*.html") if path.name != "404.html"}
    assert len(pages) == len(PAGES)
    for path, page in pages.items():
        assert not [url for url in page.loads if urlsplit(url).netloc], path.name
        for url in page.loads + page.leads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file() or (target / "index.html").is_file(), f"{path.name} leads to {url}"
            if parts.fragment and target in pages:
                assert parts.fragment in pages[target].anchors | {"__top"}, f"{path.name} leads to {url}"
    for sheet in (site / "assets").rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text("utf-8")), sheet.name


def test_search_and_equations_are_in_the_site(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text("utf-8")
    assert "geometric median" in index
    methods = (site / "methods.html").read_text("utf-8")
    fences = (ROOT / "docs" / "methods.md").read_text("utf-8").count("```math\n")
    assert methods.count("<math ") == fences >= 11
    assert "begin{" not in methods and "<mo>&amp;</mo>" not in methods and "<mi>&amp;</mi>" not in methods


def test_parts_of_other_files_are_shown_as_they_stand(site: Path) -> None:
    limits = re.sub(r"<[^>]+>", "", (site / "limits.html").read_text("utf-8"))
    section = (ROOT / "README.md").read_text("utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    items = [" ".join(item.split()) for item in section.split("\n- ")[1:]]
    plain = " ".join(limits.split())
    assert len(items) >= 8
    for item in items:
        assert re.split(r"[`*\[(]", item)[0].strip() in plain.replace("&gt;", ">"), item
    assert "They are a section of the" not in plain
    assert "A good pull request" in (site / "contributing.html").read_text("utf-8")
    assert "Protocol version 2" in (site / "changelog.html").read_text("utf-8")


def test_the_python_page_has_every_name_and_its_docstring(site: Path) -> None:
    shown = seen(site / "api.html").anchors
    for name in dir(prunebench):
        thing = getattr(prunebench, name)
        if name != "budget":
            assert f"{thing.__module__}.{thing.__qualname__}" in shown, name
    assert "the request itself is wrong" in (site / "api.html").read_text("utf-8")
    for name in prunebench.budget.__all__:
        thing = getattr(prunebench.budget, name)
        assert f"{thing.__module__}.{thing.__qualname__}" in shown, name


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(map(slug, re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)))


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_links_hold_on_github(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", CODE.sub("", path.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file = (path.parent / unquote(target)).resolve() if target else path
        assert file.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{path.name} links to {target}#{anchor}"


def test_every_method_has_its_equation_and_every_data_set_its_licence() -> None:
    methods = (ROOT / "docs" / "methods.md").read_text("utf-8")
    text = (ROOT / "docs" / "data-sets.md").read_text("utf-8")
    layouts, licences = text.partition("\n## Licences\n")[::2]
    for name in registry.task_names().ours:
        for data_set in registry.task_class(name).datasets():
            assert f"`{data_set}`" in layouts, data_set
            assert f"`{data_set}`" in licences or data_set.endswith(":PATH"), data_set
    controls = set(registry.control_names())
    for name in registry.method_names().ours - controls:
        section = next(s for s in methods.split("\n## ") if f"`{name}`" in s or s.startswith(f"{name.upper()}\n"))
        assert "```math\n" in section, name


def test_the_citation_is_one() -> None:
    """What version 1.2.0 of the Citation File Format demands, and what the package says of itself."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["authors"] == [{"name": "The prunebench authors"}]
    assert citation["version"] == prunebench.__version__ and citation["license"] == "Apache-2.0"
    assert f"## {prunebench.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
