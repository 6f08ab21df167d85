"""The documentation does not lie: its links lead somewhere and its commands run.

A block fenced as ```console is run line by line where a line begins with `$ `, in order, file by file, in one
folder of its own. A block with `<!-- not run: reason -->` on the line above is left out.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED_FOLDERS = {".git", ".venv", "build", "dist", "node_modules", "runs", "site"}
COMMAND_TIMEOUT_S = 300
HIL = Path(sys.executable).parent / "hil"
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
_FENCE = re.compile(r"^(```+)(\w*)\s*$")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_WEB = ("http://", "https://", "mailto:")


class Block(NamedTuple):
    """A fenced block; `line` is where its fence stands, `before` the line above it."""

    line: int
    language: str
    before: str
    lines: tuple[str, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(line[2:] for line in self.lines if line.startswith("$ "))

    @property
    def runs(self) -> bool:
        return self.language == "console" and not NOT_RUN.fullmatch(self.before)


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(part in SKIPPED_FOLDERS or part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def parse(text: str) -> tuple[list[Block], list[tuple[int, str]]]:
    """The fenced blocks of a document, and its (number, line) outside of them."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    fence, language, start, body = "", "", 0, list[str]()
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line.strip())
        if fence:
            if match and match[1] == fence and not match[2]:
                blocks.append(Block(start, language, before, tuple(body)))
                fence, before = "", ""
            else:
                body.append(line.strip() if language == "console" else line)
        elif match:
            fence, language, start, body = match[1], match[2], number, []
        else:
            prose.append((number, line))
            before = line.strip()
    assert not fence, f"the block that begins in line {start} has no end"
    return blocks, prose


def anchors(text: str) -> set[str]:
    """The anchors that headings get on the usual hosts."""
    titles = [match[1] for _, line in parse(text)[1] if (match := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


def _names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


DOCUMENTS = documents()
TO_RUN = [path for path in DOCUMENTS if any(block.runs and block.commands for block in parse(path.read_text())[0])]


@pytest.mark.parametrize("path", DOCUMENTS, ids=_names(DOCUMENTS))
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for number, line in parse(path.read_text(encoding="utf-8"))[1]:
        for target in _LINK.findall(_INLINE_CODE.sub("", line)):
            if target.startswith(_WEB):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                broken.append(f"line {number}: {target}: no such file")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
                broken.append(f"line {number}: {target}: no such heading")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_names(DOCUMENTS))
def test_console_blocks_have_commands(path: Path) -> None:
    """A console block without a prompt would look tested and not be."""
    empty = [
        f"line {block.line}"
        for block in parse(path.read_text(encoding="utf-8"))[0]
        if block.language == "console" and not block.commands
    ]
    assert not empty, f"{path.name}: console blocks without a line that begins with '$ ': {', '.join(empty)}"


@pytest.mark.skipif(not HIL.exists(), reason=f"{HIL} is not there: make test installs it")
@pytest.mark.parametrize("path", TO_RUN, ids=_names(TO_RUN))
def test_commands_run(path: Path, tmp_path: Path) -> None:
    """Commands see this environment's programs first, and the repository's files by links."""
    for item in ROOT.iterdir():
        if item.name not in SKIPPED_FOLDERS - {".venv"}:
            (tmp_path / item.name).symlink_to(item)
    search = os.pathsep.join([str(HIL.parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": search, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "110"}
    for block in parse(path.read_text(encoding="utf-8"))[0]:
        for command in block.commands if block.runs else ():
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=COMMAND_TIMEOUT_S, check=False,
            )  # fmt: skip
            assert done.returncode == 0, (
                f"{path.name}, block in line {block.line}: `{command}` ended with {done.returncode}\n"
                f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )


@pytest.mark.parametrize("name", ["cli.md", "messages.md", "bench-file.md", "campaign-file.md"])
def test_reference_pages_are_what_the_code_says(name: str) -> None:
    specification = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs/generate_reference.py")
    assert specification is not None and specification.loader is not None
    generator = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generator)
    written = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
    assert written == generator.pages()[name], "write it again: make docs"


def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "own_policy.py" in (tmp_path / "site/how-to/extend/index.html").read_text(encoding="utf-8")


def test_parser_sees_what_it_should() -> None:
    text = (
        "# A `b` title!\n\n<!-- not run: needs a board -->\n```console\n$ false\n```\n\n"
        "Text\n```console\n$ true\nout\n$ echo x\n```\n````markdown\n```console\n$ no\n```\n````\n"
    )
    blocks, prose = parse(text)
    assert [(block.line, block.language, block.runs) for block in blocks] == [
        (4, "console", False),
        (9, "console", True),
        (14, "markdown", False),
    ]
    assert blocks[1].commands == ("true", "echo x")
    assert prose[-1] == (8, "Text")
    assert anchors(text) == {"a-b-title"}
