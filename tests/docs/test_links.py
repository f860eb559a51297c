"""What the pages point to exists: links, anchors, files, and the headings that error messages quote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT
from tests.docs.pages import ALL_PAGES, anchors, headings, links, paths_in, target, text_of

_QUOTED = re.compile(r"""see [«"]([^»"]+)[»"] in (docs/[\w/-]+\.md)""")


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    missing = []
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        file, anchor = target(page, link)
        if not file.exists() or (anchor and anchor not in anchors(str(file.relative_to(PROJECT_ROOT)))):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    assert [path for path in sorted(paths_in(page)) if not (PROJECT_ROOT / path).exists()] == []


def test_every_heading_that_a_message_quotes_is_in_the_page() -> None:
    quoted = [
        (str(file.relative_to(PROJECT_ROOT)), heading, page)
        for file in _sources()
        for heading, page in _QUOTED.findall(" ".join(re.sub(r'"\s*\n\s*f?"', "", file.read_text()).split()))
    ]
    assert len(quoted) > 4  # the pattern still finds them
    wrong = [
        (file, heading, page)
        for file, heading, page in quoted
        if _plain(heading) not in {_plain(found) for found in headings(page)}
    ]
    assert wrong == []


def test_every_page_that_a_file_names_exists() -> None:
    named = {(str(file), page) for file in _sources() for page in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text())}
    assert named
    assert [found for found in sorted(named) if not (PROJECT_ROOT / found[1]).exists()] == []


@pytest.mark.parametrize(("page", "lines"), [("README.md", 200), ("docs/design.md", 250)])
def test_a_page_stays_short(page: str, lines: int) -> None:
    assert len(text_of(page).splitlines()) <= lines


def _sources() -> list[Path]:
    folders = [PROJECT_ROOT / name for name in ("flows", "tasks", "infra", "benchmarks")]
    found = [file for folder in folders for kind in ("*.py", "*.sql", "*.yaml") for file in folder.rglob(kind)]
    return [*found, *(PROJECT_ROOT.glob("*.toml")), *(PROJECT_ROOT.glob("*.sql")), *(PROJECT_ROOT.glob("*.yaml"))]


def _plain(heading: str) -> str:
    return re.sub(r"[`«»]", "", heading).lower()
