"""The documentation as its readers see it: pages, the commands to type, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
SHELLS = ("sh", "bash", "console")
PROGRAMS = ("rrd", "python", "python3", "pip", "make", "pytest", "source", "git", "wandb", "tensorboard")


def commands() -> dict[str, str]:
    """Every command of every page, without its comment: command -> the first page that has it.

    Except those of docs/extending, which need the files of the pages: tests/docs/test_extending.py runs them.
    """
    found: dict[str, str] = {}
    for page in (page for page in PAGES if page.parent.name != "extending"):
        for command in commands_of(page.read_text(encoding="utf-8")):
            found.setdefault(command, page.relative_to(ROOT).as_posix())
    return found


def commands_of(text: str) -> Iterator[str]:
    """Lines of blocks that are indented or marked as a shell's; and commands within a sentence."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "code_block" or (token.type == "fence" and token.info.strip() in SHELLS):
            lines = token.content.replace("\\\n", " ").splitlines()
            yield from filter(None, (re.sub(r"(^| +)#.*", "", line).strip().removeprefix("$ ") for line in lines))
        for child in token.children or []:
            if child.type == "code_inline" and is_command(child.content):
                yield " ".join(child.content.split())


def is_command(text: str) -> bool:
    """Whether code within a sentence is a command with arguments: `make test`, and not `python` or `A=1`."""
    words = [word for word in text.split() if not re.match(r"[A-Z_]+=", word)]
    return len(words) > 1 and words[0] in PROGRAMS


def tables(text: str) -> Iterator[list[list[str]]]:
    """The rows of each table, the header first, cells as they are written."""
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in block.splitlines()]
        yield [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-: ")]
