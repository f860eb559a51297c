"""Every alert of infra/monitoring/alerts.yaml fires for its fault and for no other, and says where to read on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import PROJECT_ROOT
from tests.support.metrics import promtool

ALERTS = PROJECT_ROOT / "infra" / "monitoring" / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
_EVENTS = 'spillway_events_total{stream="s",table="t",result="%s"}'
# What is exported while all is well. STEP: the seconds between two scrapes.
HEALTHY = {
    'spillway_build_info{version="1"}': "1+0x%d",
    'spillway_up{server="redis"}': "1+0x%d",
    'spillway_up{server="postgresql"}': "1+0x%d",
    'spillway_last_success_timestamp_seconds{flow="drain"}': "0+STEPx%d",
    'spillway_last_success_timestamp_seconds{flow="maintain"}': "0+STEPx%d",
    'spillway_last_success_timestamp_seconds{flow="reconcile"}': "0+STEPx%d",
    'spillway_last_success_timestamp_seconds{flow="archive verify"}': "0+STEPx%d",
    "spillway_drain_interval_seconds": "60+0x%d",
    'spillway_stream_lag_seconds{stream="s"}': "30+0x%d",
    'spillway_stream_lag_entries{stream="s"}': "100+10x%d",
    'spillway_lost_unaccepted{stream="s"}': "0+0x%d",
    'spillway_quarantine_waiting{stream="s"}': "5+0x%d",
    'spillway_ledger_balanced{stream="s"}': "1+0x%d",
    _EVENTS % "inserted": "0+1000x%d",
    _EVENTS % "rejected": "0+0x%d",
    _EVENTS % "conflict": "5+0x%d",
    'spillway_chunks_overdue{table="t",action="compress"}': "0+0x%d",
    'spillway_chunks_overdue{table="t",action="drop"}': "0+0x%d",
    'spillway_load_duration_seconds_bucket{le="60.0"}': "0+1x%d",
    'spillway_load_duration_seconds_bucket{le="300.0"}': "0+1x%d",
    'spillway_load_duration_seconds_bucket{le="+Inf"}': "0+1x%d",
}
_SUCCESS = 'spillway_last_success_timestamp_seconds{flow="%s"}'
_NO_METRICS = dict.fromkeys(HEALTHY, "_x%d")
# Alert: the changed series, when it fires, and labels besides those of the rule.
FAULTS: dict[str, tuple[dict[str, str], str, str]] = {
    "SpillwayExporterDown": (_NO_METRICS, "2m", ""),
    "SpillwayRedisDown": ({'spillway_up{server="redis"}': "0+0x%d"}, "2m", 'server="redis"'),
    "SpillwayDatabaseDown": ({'spillway_up{server="postgresql"}': "0+0x%d"}, "2m", 'server="postgresql"'),
    "SpillwayDrainSilent": ({_SUCCESS % "drain": "0+0x%d"}, "5m", ""),
    "SpillwayDrainNeverSucceeded": ({_SUCCESS % "drain": "_x%d"}, "16m", 'server="postgresql"'),
    "SpillwayScheduleSilent": ({_SUCCESS % "maintain": "0+0x%d"}, "1600m", 'flow="maintain"'),
    "SpillwayLagGrowing": ({'spillway_stream_lag_seconds{stream="s"}': "301+15x%d"}, "2m", 'stream="s"'),
    "SpillwayEntriesLost": ({'spillway_lost_unaccepted{stream="s"}': "1+0x%d"}, "1m", 'stream="s"'),
    "SpillwayQuarantineGrowing": ({_EVENTS % "rejected": "0+60x%d"}, "2m", 'stream="s"'),
    "SpillwayQuarantineGrowingSlowly": ({'spillway_quarantine_waiting{stream="s"}': "5+1x%d"}, "2m", 'stream="s"'),
    "SpillwayLedgerUnbalanced": ({'spillway_ledger_balanced{stream="s"}': "0+0x%d"}, "1m", 'stream="s"'),
    "SpillwayCompressionBehind": (
        {'spillway_chunks_overdue{table="t",action="compress"}': "2+0x%d"}, "11m", 'table="t",action="compress"',
    ),
    "SpillwayRetentionViolated": (
        {'spillway_chunks_overdue{table="t",action="drop"}': "2+0x%d"}, "11m", 'table="t",action="drop"',
    ),
    "SpillwayArchiveUnverified": ({_SUCCESS % "archive verify": "0+0x%d"}, "11530m", 'flow="archive verify"'),
    "SpillwayLoadsSlow": ({'spillway_load_duration_seconds_bucket{le="60.0"}': "0+0x%d"}, "20m", ""),
}  # fmt: skip


def names(rules: list[dict[str, Any]]) -> list[str]:
    return [rule["alert"] for rule in rules]


@pytest.mark.parametrize("rule", RULES, ids=names(RULES))
def test_an_alert_has_a_severity_a_text_and_a_heading_of_the_runbooks(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("none", "warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (PROJECT_ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]


def test_every_runbook_has_an_alert_and_every_alert_a_fault() -> None:
    headings = re.findall(r"^## (.+)$", (PROJECT_ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert headings == names(RULES)
    assert ["SpillwayWatchdog", *FAULTS] == names(RULES)
    assert len(RULES) > 10


def test_every_metric_of_an_alert_is_exported() -> None:
    used = {name for rule in RULES for name in re.findall(r"spillway_\w+", rule["expr"])}
    text = (PROJECT_ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    exported = set(re.findall(r"^\| `(spillway_\w+)`", text, re.MULTILINE))
    assert {name.removesuffix("_bucket") for name in used} <= exported


def test_promtool_accepts_the_rules() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", str(ALERTS))


def rule_test(changed: dict[str, str], moment: str, firing: list[str]) -> dict[str, Any]:
    """A unit test of promtool: what fires at a moment, if the healthy series are changed."""
    minutes = int(moment.removesuffix("m"))
    step = 15 if minutes <= 60 else 240  # days would take promtool minutes
    samples = minutes * 60 // step + 2
    series = {**HEALTHY, **changed}
    watchdog = 'alertname="SpillwayWatchdog",severity="none"'
    return {
        "interval": f"{step}s",
        "input_series": [
            {"series": name, "values": values.replace("STEP", str(step)) % samples} for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": moment,
                "exp_samples": [
                    {"labels": f'ALERTS{{alertstate="firing",{one}}}', "value": 1} for one in (watchdog, *firing)
                ],
            }
        ],
    }


def run_rule_tests(folder: Path, *tests: dict[str, Any]) -> None:
    file = folder / "tests.yaml"
    for test in tests:
        file.write_text(
            json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": test["interval"], "tests": [test]})
        )
        promtool("test", "rules", str(file))


@pytest.mark.parametrize("alert", FAULTS)
def test_a_fault_fires_its_alert_and_no_other(alert: str, tmp_path: Path) -> None:
    changed, moment, more = FAULTS[alert]
    severity = next(rule["labels"]["severity"] for rule in RULES if rule["alert"] == alert)
    firing = ",".join(filter(None, (f'alertname="{alert}",severity="{severity}"', more)))
    run_rule_tests(tmp_path, rule_test(changed, moment, [firing]))


def test_two_healthy_days_fire_no_alert_but_the_watchdog(tmp_path: Path) -> None:
    run_rule_tests(tmp_path, *(rule_test({}, moment, []) for moment in ("1m", "10m", "60m", "2880m")))


def test_a_first_minute_without_a_series_is_no_fault(tmp_path: Path) -> None:
    """As after an upgrade: no flow has a success yet, and no stream a figure."""
    absent = {name: "_x%d" for name in HEALTHY if "build_info" not in name and "_up" not in name}
    run_rule_tests(tmp_path, rule_test(absent, "10m", []))
