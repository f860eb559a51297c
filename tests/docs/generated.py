"""The parts of the pages that are made from the program:  python -m tests.docs.generated  rewrites them.

A page has `<!-- generated: NAME -->` and `<!-- end -->`; what is between them is a table from `PARTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import cache
from statistics import median
from typing import Any, Literal, get_args, get_origin

import orjson
import typer
from pydantic.fields import FieldInfo

from flows.cli.main import app
from infra.settings import PROJECT_ROOT, Settings
from tasks.metrics.families import (
    build_family,
    chunk_families,
    lag_families,
    load_family,
    stream_families,
    success_families,
    up_family,
)
from tasks.metrics.ledger_figures import LoadSeconds
from tests.docs.pages import PAGES, text_of

_PART = re.compile(r"<!-- generated: ([\w -]+) -->\n(.*?)<!-- end -->", re.DOTALL)

# The settings by what they are about, in the order of the page.
SETTINGS: dict[str, tuple[str, ...]] = {
    "servers": ("redis_url", "database_url", "read_from", "redis_port", "postgres_port", "instance", "state_dir"),
    "events": ("events_schema", "mappings", "max_age_days", "max_ahead_days", "max_bad_share", "max_new_chunks"),
    "loading": ("batch_rows", "batch_bytes", "max_entry_bytes", "parallel_loads", "task_runner", "trim_keep"),
    "waiting": ("connect_timeout", "redis_timeout", "statement_timeout", "lock_timeout", "retries"),
    "maintenance": (
        "compress_after", "compress_segmentby", "compress_orderby", "keep", "retention", "archive_url",
        "archive_after",
    ),
    "schedule": (
        "scheduled_streams", "scan_every", "drain_every", "drain_time_limit", "drain_workers", "reconcile_cron",
        "maintain_cron",
    ),
    "monitoring": ("metrics_listen", "metrics_streams", "log_format"),
}  # fmt: skip
# Defaults that depend on the machine, or are empty.
_DEFAULTS = {
    "redis_url": "the local server",
    "read_from": "the primary",
    "database_url": "the local server",
    "state_dir": "`/var/lib/spillway` for root, else `~/.local/share/spillway`",
    "mappings": "`spillway.toml`",
    "parallel_loads": "one per core, 2 to 4",
    "max_age_days": "10957.5 (30 years)",
}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def settings_table(names: Iterable[str]) -> str:
    """Variable, default and meaning of settings, from `Settings`."""
    fields = Settings.model_fields
    return table(
        ("variable", "default", "accepts", "meaning"),
        ((f"`SPILLWAY_{n.upper()}`", _default(n, fields[n]), _accepts(fields[n]), _sentence(fields[n])) for n in names),
    )


def _sentence(field: FieldInfo) -> str:
    return re.sub(r"docs/([\w/-]+\.md)", r"[\1](../\1)", field.description or "")


def _default(name: str, field: FieldInfo) -> str:
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    value = field.default
    if isinstance(value, timedelta):
        return f"`{value.days}d`" if value.days else f"`{value.seconds}s`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if value is None or value == "":
        return "off" if value is None else "none"
    return f"{value:,}" if isinstance(value, int) and value > 65535 else f"`{value}`"


def _accepts(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if timedelta in (kind, *get_args(kind)):
        return "`7d`, `36h`, `90m`, `30s`; empty: off"
    limits = {
        name: getattr(bound, name)
        for bound in field.metadata
        for name in ("ge", "gt", "le")
        if isinstance(getattr(bound, name, None), int | float)
    }
    low = f"{limits['ge']:,}" if "ge" in limits else f"above {limits['gt']:,}" if "gt" in limits else ""
    if "le" in limits:
        return f"{low} to {limits['le']:,}"
    return f"{low} or more" if "ge" in limits else low


# Typer brings a click of its own, whose classes are not those of the package `click`: hence `Any`.
def walk(command: Any, name: str = "spillway") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, groups before what is in them."""
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from walk(inner, f"{name} {child}")


@cache
def commands() -> dict[str, Any]:
    """The commands of the program by what is typed, `spillway` itself included."""
    return dict(walk(typer.main.get_command(app)))


def summary(command: Any) -> str:
    """The help text of a command, as one paragraph."""
    return " ".join((command.help or "").split())


def options_table(command: Any) -> str:
    """Arguments and options of a command with their help, from the program; those of every command are left out."""
    rows = [
        (_spelled(parameter), _parameter_default(parameter), getattr(parameter, "help", "") or "")
        for parameter in command.params
        if not {"--help", "--install-completion", "--show-completion"} & set(parameter.opts)
    ]
    return f"{summary(command)}\n" + ("\n" + table(("argument or option", "default", "meaning"), rows) if rows else "")


def _spelled(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return f"`{parameter.name.upper()}{' …' if parameter.nargs == -1 else ''}`"
    names = sorted([*parameter.opts, *parameter.secondary_opts], key=len, reverse=True)
    if not getattr(parameter, "is_flag", False):
        names[0] += f" {parameter.metavar or _choices(parameter) or parameter.name.upper()}"
    return ", ".join(f"`{name}`" for name in names)


def _choices(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is Literal:
            return "|".join(get_args(kind))
    return ""


def _parameter_default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(getattr(parameter, "show_default", None), str):
        return f"`{parameter.show_default}`"
    default = parameter.default
    return "" if default in (None, False, "", [], ()) or callable(default) else f"`{default}`"


def _results() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((PROJECT_ROOT / "docs/benchmark.json").read_bytes())
    return found


def rates_table() -> str:
    """Events a second of all contenders, medians of the rounds in benchmark.json."""
    runs = _results()["runs"]
    names = list(dict.fromkeys(name for kind in runs.values() for name in kind))
    rows = [(name, *(_median_rate(kind.get(name, [])) for kind in runs.values())) for name in names]
    return f"{_results()['machine']}; events/s:\n\n" + table(("", *runs), rows)


def _median_rate(rounds: list[dict[str, float]]) -> str:
    return f"{median(found['events'] / found['wall'] for found in rounds):,.0f}" if rounds else "–"


def claims_table() -> str:
    """The claims of benchmark.json with their bars."""
    rows = []
    for claim in _results()["claims"]:
        sign = "≤" if claim["at_most"] else "≥"
        spread = "" if claim["low"] == claim["high"] else f"{claim['low']:.2f} to {claim['high']:.2f}"
        rows.append((claim["what"], f"{sign} {claim['bar']:g}", f"{claim['median']:.2f}", spread))
    return table(("claim", "bar", "found", "least to greatest"), rows)


def metrics_table() -> str:
    """All metrics with their labels, as the exporter makes them without any figures."""
    server_up = up_family({})
    ages = success_families({}, timedelta(minutes=1))
    found = [*stream_families([], {}), *lag_families({}, {}), *ages, load_family(LoadSeconds((0,) * 14, 0))]
    rows = []
    for family in [*found, *chunk_families([]), server_up, build_family("")]:
        name = family.name + "_total" * (family.type == "counter")
        labels = ", ".join(f"`{label}`" for label in vars(family)["_labelnames"])
        rows.append((f"`{name}`", family.type, labels, family.documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


PARTS: dict[str, Callable[[], str]] = {
    **{f"settings {group}": lambda names=names: settings_table(names) for group, names in SETTINGS.items()},  # type: ignore[misc]
    "rates": rates_table,
    "claims": claims_table,
    "metrics": metrics_table,
}


def part(name: str) -> str:
    """What a page should have between its comments. Raises `KeyError` for a part that nothing makes."""
    if name.startswith("options "):
        return options_table(commands()[name.removeprefix("options ")])
    return PARTS[name]()


def parts_of(page: str) -> dict[str, str]:
    """The generated parts of a page as they are now."""
    return dict(_PART.findall(text_of(page)))


def write() -> None:
    """Write every generated part of every page."""
    for page in PAGES:
        text = text_of(page)
        fresh = _PART.sub(lambda found: f"<!-- generated: {found[1]} -->\n{part(found[1])}<!-- end -->", text)
        if fresh != text:
            (PROJECT_ROOT / page).write_text(fresh, encoding="utf-8")
            print(f"written: {page}")


if __name__ == "__main__":
    write()
