"""The rest of the repository within the site: links to its files, and the pages of its root.

`[text](../algorithm/decomposition/rrd.py)` works on a code host. MyST takes it for a file to download;
here it becomes a link to a page with the file's text, and where the link's text is the name of a function or a class,
to its line. README.md and CONTRIBUTING.md link from
the repository's root; here their links start in `docs/`.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parent.parent.parent
ROOT_PAGES = {"readme": "README.md", "contributing": "CONTRIBUTING.md"}
LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Show a page of the repository's root in its place, and turn links to the one into links to the other."""
    if docname in ROOT_PAGES:
        text = (ROOT / ROOT_PAGES[docname]).read_text(encoding="utf-8")
        source[0] = LINK.sub(lambda link: f"]({from_docs(link[1])})", text)
    for name, file in ROOT_PAGES.items():
        source[0] = source[0].replace(f"../{file}", f"{name}.md")


def from_docs(path: str) -> str:
    """A path from the repository's root as one from `docs/`."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"


class ToSourcePages(SphinxPostTransform):
    """Make a link of each reference to a file of the repository."""

    default_priority = 5                # before downloads are resolved

    def run(self, **_: Any) -> None:
        here = self.app.builder.get_target_uri(self.env.docname)
        for node in list(self.document.findall(addnodes.download_reference)):
            path = Path(os.path.normpath(Path(self.env.srcdir, self.env.docname).parent / node["reftarget"]))
            if not path.is_file() or not path.is_relative_to(ROOT) or path.suffix == ".png":
                continue
            name = path.relative_to(ROOT).as_posix()
            self.env.metadata[self.env.docname].setdefault("files", []).append(name)
            uri = os.path.relpath(f"source/{name}.html", os.path.dirname(here) or ".")
            line = line_of(path, node.astext())
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri + (f"#line-{line}" if line else ""),
                                              internal=True))


def line_of(path: Path, name: str) -> int | None:
    """Where `name`, such as RRD.q_loss, is defined in a Python file; None if it is not."""
    if path.suffix != ".py":
        return None
    scope: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    for part in name.split("."):
        found = [node for node in scope.body if part in names_of(node)]
        if not found:
            return None
        scope = found[0]
    return scope.lineno


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, context of the template, template) of each file that a page links to."""
    for name in sorted({name for data in app.env.metadata.values() for name in data.get("files", [])}):
        text = (ROOT / name).read_text(encoding="utf-8")
        try:
            language = get_lexer_for_filename(name).aliases[0]
        except ClassNotFound:
            language = "text"
        body = app.builder.highlighter.highlight_block(text, language, force=True, lineanchors="line")
        yield f"source/{name}", {"title": name, "body": f"<h1>{escape(name)}</h1>{body}"}, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(ToSourcePages)
    app.connect("source-read", read_source)
    app.connect("html-collect-pages", pages)
    # `files` is filled while pages are written, so one process must write them all
    return {"parallel_read_safe": True, "parallel_write_safe": False}
