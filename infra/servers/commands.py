"""`spillway up`, `down` and the other commands for the servers."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from infra.errors.exceptions import Terminal
from infra.output import progress, result, warn
from infra.schema.migrate import apply_schema
from infra.schema.schema_version import needed_version
from infra.servers.choose import engines, known, pick, running
from infra.servers.engine import Engine, Service
from infra.servers.external import External
from infra.settings import DATABASE, DATABASE_USER, Settings, host_of, settings

app = typer.Typer()

# For commands that hand everything on: no option is ours, not even --help.
_HAND_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


@app.command()
def up(
    engine: Annotated[
        Literal["docker", "system", "debian"] | None,
        typer.Option(help="Use this one; else the one that has the data, else the first that can work here."),
    ] = None,
) -> None:
    """Start Redis and TimescaleDB, wait until they answer, and apply the schema."""
    chosen, reasons = pick(settings(), engine)
    for reason in reasons:
        progress(f"not {reason}")
    if isinstance(chosen, External):
        chosen.up()
        result("a URL is set: nothing started; both servers answer and the schema is there")
        _show_status(chosen)
        return
    progress(f"engine: {chosen.name}")
    started = chosen.up()
    apply_schema(settings().database)
    result(f"{' and '.join(started)} started by {chosen.name}" if started else f"all is up already, by {chosen.name}")
    result(f"  redis        redis://{host_of(settings().redis)}")
    database = f"postgresql://{DATABASE_USER}@{host_of(settings().database)}/{DATABASE}"
    result(f"  timescaledb  {database}  (password: infra/compose.yaml)")


@app.command()
def down() -> None:
    """Stop both servers. The data stays."""
    engine = running(settings())
    stopped = engine.down() if engine else ()
    result(f"{' and '.join(stopped)} stopped; the data stays" if stopped else "nothing to stop: nothing runs")


@app.command()
def restart() -> None:
    """Stop both servers and start them again."""
    engine = known_engine(settings())
    engine.restart()
    result(f"both servers restarted by {engine.name}")


@app.command()
def logs(
    service: Annotated[Literal["redis", "timescaledb"] | None, typer.Argument(help="Both if left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the servers' logs."""
    chosen: Service | None = service
    known_engine(settings()).logs(chosen, follow)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop both servers and remove all their data."""
    current = settings()
    if current.external:
        External(current).reset()
    holding = [(engine, data) for engine in engines(current) if (data := engine.data())]
    if not holding:
        result(f"nothing to remove: instance {current.instance} has no data")
        return
    for engine, data in holding:
        warn(f"this removes all data of instance {current.instance} by {engine.name}: {data}")
    if not yes:
        typer.confirm("Remove it for good?", abort=True)
    for engine, data in holding:
        engine.reset()
        result(f"removed: {data}")


@app.command(context_settings=_HAND_ON, add_help_option=False)
def psql(context: typer.Context) -> None:
    """Run psql on the database; all arguments are psql's. Give it files by `< file`: it may run in a container."""
    raise typer.Exit(known_engine(settings()).psql(context.args))


@app.command("redis-cli", context_settings=_HAND_ON, add_help_option=False)
def redis_cli(context: typer.Context) -> None:
    """Run redis-cli on the Redis; all arguments are redis-cli's."""
    raise typer.Exit(known_engine(settings()).redis_cli(context.args))


@app.command()
def schema() -> None:
    """Create Spillway's tables in the database, or upgrade them to this release. Safe to repeat."""
    apply_schema(settings().database)
    result(f"the schema at {host_of(settings().database)} has version {needed_version()}")


def known_engine(current: Settings) -> Engine:
    """The engine that runs this instance, or last did. Raises `Terminal` if it was never up here."""
    engine = known(current)
    if engine is None:
        raise Terminal(f"instance {current.instance} was never up here: `spillway up` starts it")
    return engine


def _show_status(engine: Engine) -> None:
    table = Table("service", "state", "port", "version", "data", box=None, pad_edge=False)
    for one in engine.status():
        table.add_row(one.service, one.state, str(one.port), one.version, one.data)
    # As wide as it wants to be: a cut path in a pipe is of no use.
    Console(width=None if Console().is_terminal else 300).print(table)
