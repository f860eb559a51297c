"""The table `events` as Spillway reads it from the catalog."""

from __future__ import annotations

from typing import Any

import psycopg

from infra.settings import settings
from infra.tables.read_table import default_table_name, read_table
from infra.tables.table import Table
from tasks.maintain.maintained_table import MaintainedTable, maintained_table


def default_table(connection: psycopg.Connection[Any]) -> Table:
    return read_table(connection, default_table_name())


def default_maintained(connection: psycopg.Connection[Any]) -> MaintainedTable:
    return maintained_table(settings(), default_table(connection))
