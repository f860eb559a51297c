"""The pages that a user reads, taken apart: fenced blocks, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.settings import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
PAGES = ["README.md", *sorted(str(page.relative_to(PROJECT_ROOT)) for page in DOCS.rglob("*.md"))]
ALL_PAGES = [
    *PAGES,
    *(name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md") if (PROJECT_ROOT / name).exists()),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: ([^<>]+) -->\s*\Z")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line`: of its first line in the page. `not_run`: the reason in the HTML comment before it."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command as a reader types it. `output`: what the page says that it prints, None if it says nothing."""

    where: str
    text: str
    exit_code: int = 0
    output: str | None = None


def text_of(page: str) -> str:
    """The Markdown of a page, by its path in the repository."""
    return (PROJECT_ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page in these languages, in order; all of them if none is given."""
    text = text_of(page)
    found = []
    for fence in _FENCE.finditer(text):
        comment = _NOT_RUN.search(text[: fence.start()])
        line = text.count("\n", 0, fence.start()) + 2
        found.append(Block(page, line, fence[1], fence[2], comment[1] if comment else None))
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a `bash` or `console` block. `# exit code N` after a command says how it ends."""
    prompt = "$ " if block.language == "console" else ""
    lines = iter(list(enumerate(block.text.replace("\\\n", " ").splitlines(), block.line)))
    current: Command | None = None
    output: list[str] = []
    for number, line in lines:
        if prompt and not line.startswith(prompt):
            output.append(line)
            continue
        if current:
            yield _with_output(current, output)
        current, output = None, []
        typed, _, comment = line.removeprefix(prompt).partition("  #")
        if not typed.strip() or typed.startswith("#"):
            continue
        code = re.fullmatch(r" *exit code (\d+)", comment)
        current = Command(f"{block.page}:{number}", typed.strip(), int(code[1]) if code else 0)
        if not prompt:
            yield current
            current = None
    if current:
        yield _with_output(current, output)


def _with_output(command: Command, lines: list[str]) -> Command:
    return Command(command.where, command.text, command.exit_code, "\n".join(lines))


def inline_commands(page: str) -> list[str]:
    """The `spillway …` commands in the text of a page."""
    spans = _INLINE.findall(_FENCE.sub("", text_of(page)))
    return [" ".join(span.split()) for span in spans if span.startswith("spillway ")]


def links(page: str) -> list[str]:
    """The targets of the links of a page."""
    return _LINK.findall(_FENCE.sub("", text_of(page)))


def headings(page: str) -> list[str]:
    """The headings of a page, as written."""
    return _HEADING.findall(_FENCE.sub("", text_of(page)))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def paths_in(page: str) -> set[str]:
    """The files and folders of the repository that a page names in code spans."""
    spans = _INLINE.findall(_FENCE.sub("", text_of(page)))
    return {s for s in spans if re.fullmatch(r"(flows|tasks|infra|tests|benchmarks|docs)(/[\w.-]+)+/?", s)}


def target(page: str, link: str) -> tuple[Path, str]:
    """The file that a relative link points to, and the anchor in it."""
    path, _, anchor = link.partition("#")
    here = PROJECT_ROOT / page
    return ((here.parent / path).resolve() if path else here), anchor
