"""The table of docs/design-operations.md says of every fault of the campaign which alert it raises, or that none is."""

from __future__ import annotations

import re

import yaml

from infra.settings import PROJECT_ROOT
from tests.faults.campaign.kinds import KINDS
from tests.faults.incidents import INCIDENTS

_PAGE = (PROJECT_ROOT / "docs" / "design-operations.md").read_text()
_ROWS = [
    (re.findall(r"`([\w-]+)`", kinds), alert)
    for kinds, alert in re.findall(r"^\| (`[a-z].*?) \| (.*) \|$", _PAGE, re.MULTILINE)
]
_RULES = yaml.safe_load((PROJECT_ROOT / "infra" / "monitoring" / "alerts.yaml").read_text())
_ALERTS = {rule["alert"] for group in _RULES["groups"] for rule in group["rules"]}


def test_every_kind_of_the_campaign_is_in_the_table_once() -> None:
    assert sorted(kind for kinds, _ in _ROWS for kind in kinds) == sorted(KINDS)


def test_every_kind_has_an_alert_that_exists_or_a_reason_for_none() -> None:
    for kinds, text in _ROWS:
        alerts = set(re.findall(r"`(Spillway\w+)`", text))
        assert alerts <= _ALERTS, kinds
        assert alerts or re.match("none: .{20}", text), kinds


def test_the_incidents_that_are_played_raise_alerts_that_exist() -> None:
    assert {alert for incident in INCIDENTS for alert in incident.alerts} <= _ALERTS
