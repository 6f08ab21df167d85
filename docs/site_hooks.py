"""What the site needs beyond the pages: the repository's own pages, navigation, and links that lead out of docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "README.md")
SECTIONS = (("Learn", "tutorials"), ("Do", "how-to"), ("Understand", "explanations"), ("Look up", "reference"))
DECISIONS = "explanations/decisions"
_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Pages by kind, in the order of their names; decisions after the other explanations."""
    nav: list[Any] = [{"Home": "README.md"}]
    for title, folder in SECTIONS:
        pages: list[Any] = [f"{folder}/{name}" for name in _pages(folder)]
        if folder == posixpath.dirname(DECISIONS):
            pages.append({"Decisions": [f"{DECISIONS}/{name}" for name in _pages(DECISIONS)]})
        nav.append({title: pages})
    nav.append({"Project": [f"project/{name}" for name in PROJECT]})
    config["nav"] = nav
    return config


def _pages(folder: str) -> list[str]:
    return sorted(path.name for path in (ROOT / "docs" / folder).glob("*.md"))


def on_files(files: Files, config: Any) -> Files:
    """The repository's own pages become pages below project/."""
    for name in PROJECT:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between pages lead to where the site has them; one to what the site lacks becomes its words."""
    here: str = page.file.src_uri
    origin = posixpath.basename(here) if here.startswith("project/") else f"docs/{here}"

    def moved(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if path in PROJECT:
            path = f"project/{path}"
        elif path.startswith("docs/") and (ROOT / path).is_file():
            path = path.removeprefix("docs/")
        else:
            return label
        return f"[{label}]({posixpath.relpath(path, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(moved, markdown)
