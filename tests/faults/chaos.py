"""A long campaign of faults on every TimescaleDB that this machine can run: make chaos"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from typing import Annotated

import typer
from rich.console import Console

import tests.environment  # noqa: F401
from infra.servers.choose import ENGINES
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tests.faults.campaign.cluster import ClusterTestbed
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.run_fault import Result, run_fault
from tests.faults.campaign.shared import MOST, SharedSeries
from tests.faults.campaign.summary import summary
from tests.faults.campaign.testbed import FaultTestbed, running_testbed
from tests.faults.campaign.user_tables import SERIES, kinds_for
from tests.support.prefect_server import running_prefect, running_worker

_SERIES_LENGTH = 8  # faults on the same streams
_SLOW_EVERY = 3  # slow kinds take part in every third round

console = Console(highlight=False, soft_wrap=True)


def main(
    faults: Annotated[int, typer.Option(min=1, help="How many, on each engine.")] = 300,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole campaign. Random by default.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="May be repeated; every one that can run, if not.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only faults of this kind; may be repeated.")] = None,
    tables: Annotated[str, typer.Option(help=f"What the streams go to: {', '.join(SERIES)}.")] = "events",
    workers: Annotated[
        int, typer.Option(min=1, max=MOST, help="Two drains up to so many at once, which share their streams.")
    ] = 1,
    replay: Annotated[list[str] | None, typer.Option(help="KIND:SEED as printed; only these, in this order.")] = None,
) -> None:
    """Inject faults one after the other, and compare all tables with what was produced. Exit code 1 if anything
    differs."""
    if tables not in SERIES:
        raise typer.BadParameter(f"expected one of {', '.join(SERIES)}, found {tables!r}")
    if workers > 1 and tables != "events":
        raise typer.BadParameter("--workers is for --tables events")
    kind_of_series = partial(SharedSeries, workers=workers) if workers > 1 else SERIES[tables]
    seed = random.randrange(1 << 32) if seed is None else seed
    only = kind or kinds_for(SharedSeries if workers > 1 else SERIES[tables])
    results: list[Result] = []
    with running_prefect() as api:
        for name in engine or _engines():
            with ExitStack() as stack:
                settings, used = stack.enter_context(throwaway_servers("chaos", name))
                worker = cache(lambda config=settings, on=stack: on.enter_context(running_worker(config)))
                testbed = stack.enter_context(running_testbed(settings, used, api, worker))
                console.print(f"{name}: {_version(testbed)}; seed {seed}")
                wanted = (
                    _replayed(replay)
                    if replay
                    else _random_kinds(testbed, random.Random(seed), faults, only, bool(kind))
                )
                finished = _campaign(testbed, f"chaos-{name}", seed, wanted, kind_of_series)
                results += finished
                Console(width=120).print(summary(f"{name}: {_version(testbed)}", finished))
    raise typer.Exit(0 if all(result.good for result in results) else 1)


def _engines() -> list[str]:
    """The engines that can run here. Prints why the others cannot."""
    can = []
    for name, engine in ENGINES.items():
        if reason := engine(Settings(_env_file=None)).unavailable_reason():
            console.print(f"without {name}: {reason}")
        else:
            can.append(name)
    return can


def _version(testbed: FaultTestbed) -> str:
    with testbed.sql() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), extversion, current_setting('timescaledb.license')"
            "  FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
    assert row is not None  # the schema made the extension
    return f"PostgreSQL {row[0].split()[0]}, TimescaleDB {row[1]} ({row[2]})"


def _replayed(wanted: list[str]) -> Iterator[tuple[str, int]]:
    for one in wanted:
        kind, _, seed = one.partition(":")
        if kind not in KINDS or not seed.isdecimal():
            raise typer.BadParameter(f"expected KIND:SEED, found {one!r}; kinds: {', '.join(KINDS)}")
        yield kind, int(seed)


def _random_kinds(
    testbed: FaultTestbed, rng: random.Random, faults: int, only: list[str], chosen: bool
) -> Iterator[tuple[str, int]]:
    """The kinds `only` in random order, again and again; slow ones less often, unless the user has `chosen` them."""
    if unknown := set(only) - KINDS.keys():
        raise typer.BadParameter(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    possible = []
    for kind in only:
        if reason := KINDS[kind].impossible(testbed):
            console.print(f"without {kind}: {reason}")
        else:
            possible.append(kind)
    left, turn = faults, 0
    while left:
        kinds = [kind for kind in possible if chosen or not KINDS[kind].slow or turn % _SLOW_EVERY == 0]
        rng.shuffle(kinds)
        kinds = [kind for kind in kinds for _ in range(KINDS[kind].in_a_row)][:left]
        for kind in kinds:
            yield kind, rng.randrange(1 << 32)
        left -= len(kinds)
        turn += 1


def _campaign(
    testbed: FaultTestbed,
    name: str,
    seed: int,
    wanted: Iterator[tuple[str, int]],
    kind_of_series: Callable[[str, int], FaultSeries],
) -> list[Result]:
    results: list[Result] = []
    series: FaultSeries | None = None
    clustered = ClusterTestbed.of(testbed)
    for number, (kind, kind_seed) in enumerate(wanted):
        used = clustered if KINDS[kind].on_cluster else testbed
        # Start over after a failure: otherwise all later results would be wrong, too.
        if (
            series is None
            or number % _SERIES_LENGTH == 0
            or not results[-1].good
            or KINDS[results[-1].kind].ends_series
            or KINDS[results[-1].kind].on_cluster != KINDS[kind].on_cluster
        ):
            used.empty()
            series = kind_of_series(f"{name}-{number}", seed + number)
        results.append(run_fault(used, series, kind, kind_seed))
        mark = "[green]ok[/green]" if results[-1].good else "[red]BAD[/red]"
        console.print(f"{number + 1:4} {mark} ", end="")
        console.print(str(results[-1]), markup=False)
        if not results[-1].good:
            console.print(*results[-1].errors, results[-1].log, sep="\n", markup=False)
    return results


if __name__ == "__main__":
    typer.run(main)
