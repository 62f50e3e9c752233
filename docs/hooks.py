"""What the site makes of the pages beyond Markdown: equations, parts of other files, links out of this folder.

- A fence named `math` becomes MathML, which browsers draw by themselves. GitHub draws the same fence.
- What stands between `<!-- include: ../README.md#limits -->` and `<!-- end of include -->` is replaced by that section
  of that file, or by the whole file where no heading is named. GitHub shows what stands there.
- What stands between `<!-- reference: bench.runs.api.run -->` and `<!-- end of reference -->`, its heading first, is
  replaced by the whole docstring of what is named. GitHub shows what stands there.
- A link to a file outside of docs/ leads to the page that includes it, or to a copy of it in the site.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

log = logging.getLogger("mkdocs.hooks.prunebench")  # a warning of it ends a strict build, as one of MkDocs does

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COPIES = "repository"
"""Folder of the site with copies of files outside of docs/."""
SHOWN = frozenset({".csv", ".html", ".jpg", ".pdf", ".png", ".svg", ".txt"})
"""What a browser shows; copies of other files get the ending .txt."""
INCLUDE = re.compile(r"^<!-- include: ([^\s#]+)(?:#(\S+))? -->\n.*?^<!-- end of include -->$", re.DOTALL | re.MULTILINE)
REFERENCE = re.compile(
    r"^<!-- reference: (\S+) -->\n### (\S+)\n.*?^<!-- end of reference -->$", re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
CODE = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#+) (.+)$")
SLUG: Callable[..., str] = slugify(case="lower")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": equation})
    return config


def equation(source: str, *_: Any, **__: Any) -> str:
    """An equation in LaTeX as MathML in a block of its own."""
    return f'<div class="equation">{convert(source.strip(), display="block")}</div>'


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = DOCS / page.file.src_uri
    whole = INCLUDE.sub(lambda found: included(here, found[1], found[2]), markdown)
    whole = REFERENCE.sub(r"::: \1\n    options: { heading: \2 }", whole)
    return with_links(whole, lambda target, anchor: leads_to(here, target, anchor, config, files))


def included(here: Path, name: str, heading: str | None) -> str:
    """The text of a file, or of the section below one of its headings, with links as they must be from `here`.

    Raises:
        PluginError: there is no such file or heading.
    """
    path = (here.parent / name).resolve()
    if not path.is_file():
        raise PluginError(f"{here.name} includes {name}, which is not there")
    text = path.read_text("utf-8")
    if heading is not None:
        text = "\n".join(section(text.splitlines(), heading)).strip("\n")
        if not text:
            raise PluginError(f"{here.name} includes {name}#{heading}, which is no heading there")

    def moved(target: str, anchor: str) -> str:
        return os.path.relpath(path.parent / target, here.parent) + anchor

    return with_links(text, moved)


def section(lines: list[str], heading: str) -> Iterator[str]:
    """The lines below a heading, up to the next one of its level or above."""
    level = 0
    for line in lines:
        found = HEADING.match(line)
        if found and level and len(found[1]) <= level:
            return
        if level:
            yield line
        elif found and SLUG(found[2], "-") == heading:
            level = len(found[1])


def with_links(text: str, changed: Callable[[str, str], str]) -> str:
    """A text in which each relative link outside of code is what `changed(target, anchor)` makes of it."""

    def link(found: re.Match[str]) -> str:
        target, anchor = found["target"], found["anchor"] or ""
        if re.match(r"[a-z]+:|/", target):
            return found[0]
        return found["before"] + changed(target, anchor)

    out, last = [], 0
    for code in CODE.finditer(text):
        out += [LINK.sub(link, text[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*out, LINK.sub(link, text[last:])])


def leads_to(here: Path, target: str, anchor: str, config: MkDocsConfig, files: Files) -> str:
    """Where a link of a page leads in the site; the file that it names is copied there if no page has it."""
    path = Path(os.path.normpath(here.parent / target))
    if path.is_relative_to(DOCS):
        return target + anchor
    within = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else None
    pages = pages_of_files(files)
    if within is not None and (within + anchor in pages or within in pages):
        exact = within + anchor in pages
        return up(here, pages[within + anchor if exact else within]) + ("" if exact else anchor)
    if path.name == "README.md" and path.with_name("index.html").is_file():
        path, anchor = path.with_name("index.html"), ""  # a report: its page has all that its README has
    if within is None or not path.is_file() or path.suffix == ".md":
        log.warning(f"{here.name} links to {target}, which is no file of the project that the site can show")
        return target + anchor
    copy = f"{COPIES}/{path.relative_to(ROOT).as_posix()}" + ".txt" * (path.suffix not in SHOWN)
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(path)))
    return up(here, copy) + anchor


def up(here: Path, uri: str) -> str:
    return os.path.relpath(DOCS / uri, here.parent)


def pages_of_files(files: Files) -> dict[str, str]:
    """The pages that include a file outside of docs/, or a section of it (`README.md#limits`)."""
    found = {"README.md": "index.md"}
    for file in files.documentation_pages():
        match = INCLUDE.search(file.content_string)
        if match:
            path = os.path.normpath(Path("docs", file.src_uri).parent / match[1])
            found[path + (f"#{match[2]}" if match[2] else "")] = file.src_uri
    return found
