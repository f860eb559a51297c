"""The commands for the servers: `spillway up`, `down` and others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from infra.errors.exceptions import Terminal
from infra.output import print_table, progress, result, warn
from infra.schema.migrate import apply_schema
from infra.schema.schema_version import needed_version
from infra.servers.choose import all_engines, choose_engine, last_engine, running_engine
from infra.servers.engine import Engine, Service, ServiceStatus
from infra.servers.external import ExternalEngine
from infra.settings import DATABASE, DATABASE_USER, Settings, host_of, settings

app = typer.Typer()

# For commands that pass all arguments on: Spillway reads no option, not even --help.
_PASS_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


@app.command()
def up(
    engine: Annotated[
        Literal["docker", "system", "debian"] | None,
        typer.Option(help="Use this engine. Default: the one that has the data, else the first that works here."),
    ] = None,
) -> None:
    """Start Redis and TimescaleDB, wait until both answer, and apply the schema."""
    chosen, reasons = choose_engine(settings(), engine)
    for reason in reasons:
        progress(f"skipped {reason}")
    if isinstance(chosen, ExternalEngine):
        chosen.up()
        result("nothing was started, because a URL is set; both servers answer, and the schema is up to date")
        print_servers(chosen.status())
        return
    progress(f"engine: {chosen.name}")
    started = chosen.up()
    apply_schema(settings().database)
    result(
        f"{' and '.join(started)} started by {chosen.name}"
        if started
        else f"both servers are already running ({chosen.name})"
    )
    result(f"  redis        redis://{host_of(settings().redis)}")
    database = f"postgresql://{DATABASE_USER}@{host_of(settings().database)}/{DATABASE}"
    result(f"  timescaledb  {database}  (password: infra/compose.yaml)")


@app.command()
def down() -> None:
    """Stop both servers. Their data stays."""
    engine = running_engine(settings())
    stopped = engine.down() if engine else ()
    result(f"{' and '.join(stopped)} stopped; the data stays" if stopped else "neither server is running")


@app.command()
def restart() -> None:
    """Stop both servers and start them again."""
    engine = required_engine(settings())
    engine.restart()
    result(f"both servers restarted by {engine.name}")


@app.command()
def logs(
    service: Annotated[
        Literal["redis", "timescaledb"] | None, typer.Argument(help="The server. Default: both.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Keep printing until Ctrl-C.")] = False,
) -> None:
    """Print the servers' logs."""
    chosen: Service | None = service
    required_engine(settings()).logs(chosen, follow)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False) -> None:
    """Stop both servers and remove all their data for good."""
    current = settings()
    if current.external:
        ExternalEngine(current).reset()
    holding = [(engine, data) for engine in all_engines(current) if (data := engine.data())]
    if not holding:
        result(f"nothing to remove: instance {current.instance} has no data")
        return
    for engine, data in holding:
        warn(f"this removes all data of the instance {current.instance} ({engine.name}): {data}")
    if not yes:
        typer.confirm("Remove it?", abort=True)
    for engine, data in holding:
        engine.reset()
        result(f"removed: {data}")


@app.command(context_settings=_PASS_ON, add_help_option=False)
def psql(context: typer.Context) -> None:
    """Run psql on the database with these arguments. Pass files as `< file`: psql may run in a container."""
    raise typer.Exit(required_engine(settings()).psql(context.args))


@app.command("redis-cli", context_settings=_PASS_ON, add_help_option=False)
def redis_cli(context: typer.Context) -> None:
    """Run redis-cli on the Redis with these arguments."""
    raise typer.Exit(required_engine(settings()).redis_cli(context.args))


@app.command()
def schema() -> None:
    """Create Spillway's tables in the database, or upgrade them to this release. Safe to repeat."""
    apply_schema(settings().database)
    result(f"the schema at {host_of(settings().database)} has version {needed_version()}")


def required_engine(current: Settings) -> Engine:
    """The engine that runs this instance or last did. Raises `Terminal` if it was never started here."""
    engine = last_engine(current)
    if engine is None:
        raise Terminal(f"the instance {current.instance} was never started here; start it with `spillway up`")
    return engine


def print_servers(servers: Iterable[ServiceStatus]) -> None:
    """Print the table of the servers."""
    print_table(
        ("service", "state", "port", "version", "data"),
        [(one.service, one.state, str(one.port), one.version, one.data) for one in servers],
        rule=False,
        whole=("version", "data"),
        drop=("data", "version"),
    )
