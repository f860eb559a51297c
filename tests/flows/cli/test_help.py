"""`spillway --help`, `-h`, `--version` and shell completion; and the same names in commands and flows."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer

from flows.cli.main import app
from tests.support.programs import BIN

# What only the command has: how its result is printed.
OUTPUT_OPTIONS = {"as_json", "verbose"}
# What only the flow has: a command always fails, with an exit code.
FLOW_ONLY = {"fail"}
# Typer wants another name in Python for an option that is a builtin.
SPELLED = {"set_": "set"}
COMMANDS_OF_FLOWS = ("drain", "backfill", "reconcile", "maintain", "quarantine redrive")


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with what is typed after `spillway`."""

    def walk(command: Any, typed: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        yield " ".join(typed), command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*typed, name))

    return walk(typer.main.get_command(app), ())


COMMANDS = dict(commands())


def run(*arguments: str) -> str:
    done = subprocess.run([BIN / "spillway", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_help_and_a_list_of_the_quarantine_load_neither_prefect_nor_what_reads_data() -> None:
    """These take seconds; a command that needs them loads them when it runs."""
    slow = ("prefect", "pandas", "pyarrow", "numpy", "fsspec")
    modules = "sys, flows.cli.main, tasks.table.quarantine"
    code = f"import {modules}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_h_is_help_and_version_is_that_of_the_package() -> None:
    assert run("-h") == run("--help")
    assert "Usage: spillway quarantine redrive" in run("quarantine", "redrive", "-h")
    assert run("--version") == f"spillway {version('spillway')}\n"


@pytest.mark.parametrize("typed", sorted(set(COMMANDS) - {"psql", "redis-cli"}))
def test_every_command_takes_h_and_explains_every_option(typed: str) -> None:
    """`psql` and `redis-cli` pass everything on, `-h` included."""
    command = COMMANDS[typed]
    context = command.make_context("spillway", [], resilient_parsing=True, help_option_names=["-h", "--help"])
    assert "-h" in command.get_help_option_names(context)
    assert command.help
    unexplained = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert unexplained == []


def test_completion_completes_commands_and_options() -> None:
    for typed, expected in (("spillway quar", "quarantine"), ("spillway drain --unt", "--until")):
        environment = {
            "PATH": "/usr/bin:/bin", "_SPILLWAY_COMPLETE": "complete_bash", "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        }  # fmt: skip
        done = subprocess.run([BIN / "spillway"], env=environment, capture_output=True, text=True, check=True)
        assert expected in done.stdout.split()


def flow_of(typed: str) -> Any:
    from importlib import import_module

    name = typed.split()[-1]
    return getattr(import_module(f"flows.{name}"), name).fn


@pytest.mark.parametrize("typed", COMMANDS_OF_FLOWS)
def test_a_command_and_its_flow_have_the_same_parameters_with_the_same_choices(typed: str) -> None:
    callback = COMMANDS[typed].callback
    hints = get_type_hints(inspect.unwrap(callback))
    of_command = {
        SPELLED.get(name, name): hint for name, hint in hints.items() if name not in {*OUTPUT_OPTIONS, "return"}
    }
    of_flow = {n: h for n, h in get_type_hints(flow_of(typed)).items() if n not in {*FLOW_ONLY, "return"}}
    assert of_command.keys() == of_flow.keys()
    for name, hint in of_flow.items():
        assert choices(of_command[name]) == choices(hint), name


def choices(hint: Any) -> tuple[str, ...]:
    return next((get_args(kind) for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal), ())


@pytest.mark.parametrize("typed", COMMANDS_OF_FLOWS)
def test_options_are_spelled_as_the_parameters_of_the_flow(typed: str) -> None:
    spelled = {name for parameter in COMMANDS[typed].params for name in parameter.opts if name.startswith("--")}
    for name in inspect.signature(flow_of(typed)).parameters:
        if name not in {*FLOW_ONLY, "source", "entries"}:  # those two are arguments
            assert f"--{name.replace('_', '-')}" in spelled


def test_an_option_has_the_same_letter_in_every_command() -> None:
    """Who has typed `drain -s` types `generate -s`."""
    found: dict[str, dict[str, set[str]]] = {}
    for typed, command in COMMANDS.items():
        for option in command.params:
            for long in (name for name in option.opts if name.startswith("--")):
                letters = " ".join(name for name in option.opts if not name.startswith("--"))
                found.setdefault(long, {}).setdefault(letters, set()).add(typed)
    assert len(found["--stream"]["-s"]) > 8
    assert {long: uses for long, uses in found.items() if len(uses) > 1} == {}
