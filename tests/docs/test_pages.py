"""The tools of these tests: what they find in a page, and when output has the shape that a page shows."""

from __future__ import annotations

import re

import pytest

from infra.settings import PROJECT_ROOT
from tests.docs.pages import Block, blocks, commands, text_of
from tests.docs.terminal import has_shape

_PAGE = "docs/how-to/schedule.md"


def test_a_comment_concerns_the_block_after_it_and_no_other() -> None:
    found = blocks(_PAGE, "bash")
    before = [re.search(r"not run: .* -->\n```bash\n" + re.escape(block.text), text_of(_PAGE)) for block in found]
    assert [block.not_run is not None for block in found] == [match is not None for match in before]
    assert {None} < {block.not_run for block in found}


def test_a_console_block_has_commands_with_their_output_and_exit_code() -> None:
    block = Block("page.md", 10, "console", "$ one --a  # exit code 4\nfirst\nsecond\n$ two \\\n  --b\n", None)
    one, two = commands(block)
    assert (one.text, one.exit_code, one.output) == ("one --a", 4, "first\nsecond")
    assert (two.text, two.exit_code, two.output) == ("two    --b", 0, "")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("read 10,000 at 1.5 MB", "read   7 at 22 MB\n", True),
        ("read 10,000", "wrote 10,000", False),
        ("error: …; type x", "error: no such thing; type x", True),
        ("error: …; type x", "error: no such thing; type y", False),
        ("a ─── b", "a ───────── b", True),
        ("one", "one two", False),
    ],
)
def test_output_has_the_shape_that_a_page_shows(shown: str, printed: str, same: bool) -> None:
    assert has_shape(printed, shown) is same


_QUOTE = re.compile(r"«([^»]+)»")
_FRAGMENT = 6  # letters; shorter pieces say nothing


def _program() -> str:
    """All source text, with string literals that are continued on the next line joined."""
    folders = [PROJECT_ROOT / name for name in ("flows", "tasks", "infra")]
    text = "\n".join(
        file.read_text() for folder in folders for kind in ("*.py", "*.sql") for file in folder.rglob(kind)
    )
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_every_message_that_operations_quotes_is_one_of_the_program() -> None:
    program = _program()
    foreign = ("violates check constraint", "Subscription queue is full", "canceling statement due to")  # not ours
    unknown = []
    for quote in _QUOTE.findall(" ".join(text_of("docs/operations.md").split())):
        pieces = [piece.strip(" ;,:.") for piece in re.split(r"…|\bN\b|\bM\b|\b7\b|\b3\b", quote)]
        if quote.startswith(foreign):
            continue
        unknown += [(quote, piece) for piece in pieces if len(piece) >= _FRAGMENT and piece not in program]
    assert unknown == []
