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
_EVENTS = 'spillway_events_total{stream="s",table="t",result="%s",job="etl"}'
# What is exported while all is well. STEP: the seconds between two scrapes.
HEALTHY = {
    'up{job="etl"}': "1+0x%d",
    'spillway_build_info{version="1",job="etl"}': "1+0x%d",
    'spillway_up{server="redis",job="etl"}': "1+0x%d",
    'spillway_up{server="chunks",job="etl"}': "1+0x%d",
    'spillway_up{server="postgresql",job="etl"}': "1+0x%d",
    'spillway_last_success_timestamp_seconds{flow="drain",job="etl"}': "0+STEPx%d",
    'spillway_last_success_timestamp_seconds{flow="maintain",job="etl"}': "0+STEPx%d",
    'spillway_last_success_timestamp_seconds{flow="reconcile",job="etl"}': "0+STEPx%d",
    'spillway_last_success_timestamp_seconds{flow="archive verify",job="etl"}': "0+STEPx%d",
    'spillway_drain_interval_seconds{job="etl"}': "60+0x%d",
    'spillway_stream_lag_seconds{stream="s",job="etl"}': "30+0x%d",
    'spillway_stream_lag_entries{stream="s",job="etl"}': "100+10x%d",
    'spillway_lost_unaccepted{stream="s",job="etl"}': "0+0x%d",
    'spillway_quarantine_waiting{stream="s",job="etl"}': "5+0x%d",
    'spillway_ledger_balanced{stream="s",job="etl"}': "1+0x%d",
    _EVENTS % "inserted": "0+1000x%d",
    _EVENTS % "rejected": "0+0x%d",
    _EVENTS % "conflict": "5+0x%d",
    'spillway_chunks_overdue{table="t",action="compress",job="etl"}': "0+0x%d",
    'spillway_chunks_overdue{table="t",action="recompress",job="etl"}': "1+0x%d",  # there are always late events
    'spillway_chunks_overdue{table="t",action="drop",job="etl"}': "0+0x%d",
    'node_textfile_mtime_seconds{file="/var/lib/node_exporter/spillway.prom",job="etl"}': "0+STEPx%d",
    'spillway_load_duration_seconds_bucket{le="60.0",job="etl"}': "0+1x%d",
    'spillway_load_duration_seconds_bucket{le="300.0",job="etl"}': "0+1x%d",
    'spillway_load_duration_seconds_bucket{le="+Inf",job="etl"}': "0+1x%d",
}
_SUCCESS = 'spillway_last_success_timestamp_seconds{flow="%s",job="etl"}'
_UP, _LAG = 'spillway_up{server="%s",job="etl"}', 'spillway_stream_lag_%s{stream="s",job="etl"}'
_OVERDUE = 'spillway_chunks_overdue{table="t",action="%s",job="etl"}'
_INTERVAL = 'spillway_drain_interval_seconds{job="etl"}'
_STREAM = 'spillway_%s{stream="s",job="etl"}'
_TEXTFILE = next(name for name in HEALTHY if name.startswith("node_"))
_GONE = {name: values.split("+")[0] + " stale" for name, values in HEALTHY.items() if name.startswith("spillway_")}
_FIXED, _NONE = "0+0x%d", "_x%d"
# Alert: the changed series, when it fires, and labels besides those of the rule and the job.
FAULTS: dict[str, tuple[dict[str, str], str, str]] = {
    "SpillwayExporterDown": ({**_GONE, 'up{job="etl"}': "1 0+0x%d"}, "3m", ""),
    "SpillwayTextfileOld": ({_TEXTFILE: _FIXED}, "7m", 'file="/var/lib/node_exporter/spillway.prom"'),
    "SpillwayRedisDown": ({_UP % "redis": _FIXED}, "2m", 'server="redis"'),
    "SpillwayDatabaseDown": ({_UP % "postgresql": _FIXED}, "2m", 'server="postgresql"'),
    "SpillwayChunksUnreadable": ({_UP % "chunks": _FIXED}, "11m", 'server="chunks"'),
    "SpillwayDrainSilent": ({_SUCCESS % "drain": _FIXED}, "5m", ""),
    "SpillwayDrainNeverSucceeded": ({_SUCCESS % "drain": _NONE}, "16m", 'server="postgresql"'),
    "SpillwayScheduleSilent": ({_SUCCESS % "maintain": _FIXED, _OVERDUE % "recompress": _FIXED}, "1600m",
                               'flow="maintain"'),
    "SpillwayScheduleNeverSucceeded": ({_SUCCESS % "reconcile": _NONE}, "1600m", 'flow="reconcile",version="1"'),
    "SpillwayLagGrowing": ({_LAG % "seconds": "481+15x%d"}, "2m", 'stream="s"'),
    "SpillwayEntriesLost": ({_STREAM % "lost_unaccepted": "1+0x%d"}, "1m", 'stream="s"'),
    "SpillwayQuarantineGrowing": ({_EVENTS % "rejected": "0+60x%d"}, "2m", 'stream="s"'),
    "SpillwayQuarantineGrowingSlowly": ({_STREAM % "quarantine_waiting": "5+1x%d"}, "2m", 'stream="s"'),
    "SpillwayLedgerUnbalanced": ({_STREAM % "ledger_balanced": _FIXED}, "1m", 'stream="s"'),
    "SpillwayCompressionBehind": ({_OVERDUE % "compress": "2+0x%d"}, "11m", 'table="t",action="compress"'),
    "SpillwayRetentionViolated": ({_OVERDUE % "drop": "2+0x%d"}, "11m", 'table="t",action="drop"'),
    "SpillwayArchiveUnverified": ({_SUCCESS % "archive verify": _FIXED}, "11530m", 'flow="archive verify"'),
    "SpillwayLoadsSlow": (
        {'spillway_load_duration_seconds_bucket{le="60.0",job="etl"}': _FIXED}, "20m", "",
    ),
}  # fmt: skip
# A saw-tooth of 15 minutes, in steps of 15 s: what waits is drained as planned.
_SAW = " ".join([" ".join(str(15 * step) for step in range(60))] * 4)
_EVERY_15_MINUTES = {_INTERVAL: "900+0x%d", _LAG % "seconds": _SAW, _LAG % "entries": _SAW}
_DAY = 1_460  # minutes
# What is no fault, by name: the changed series, and the moments.
NO_FAULTS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "a drain every 15 minutes": (_EVERY_15_MINUTES, ("38m", "44m", "59m")),
    "a new installation before its first hourly drain": (
        {_SUCCESS % "drain": _NONE, _INTERVAL: "3600+0x%d"}, ("16m", "59m"),
    ),
    "a new installation whose drains something else starts": (
        {_SUCCESS % "drain": _NONE, _INTERVAL: _NONE}, ("16m", "59m"),
    ),
    "a new installation in its first day": (
        {_SUCCESS % "maintain": _NONE, _SUCCESS % "reconcile": _NONE, _SUCCESS % "archive verify": _NONE},
        ("60m", f"{_DAY}m"),
    ),
    "no interval is set, and nothing waits": (
        {_INTERVAL: _NONE, _SUCCESS % "drain": _FIXED, _LAG % "entries": _FIXED}, (f"{_DAY}m",),
    ),
    "no interval is set, and drains come every few hours": (
        {_INTERVAL: _NONE, _SUCCESS % "drain": _FIXED, _LAG % "seconds": "0+STEPx%d"}, ("1400m",),
    ),
    "late events that maintain compresses in time, every day": ({_OVERDUE % "recompress": "3+0x%d"}, ("2880m",)),
    "late events that a policy compresses, without maintain": (
        {_SUCCESS % "maintain": _NONE, _OVERDUE % "recompress": " ".join(["3+0x170 0"] * 20)}, ("1540m",),
    ),
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
            {"series": name, "values": values.replace("STEP", str(step)).replace("%d", str(samples))}
            for name, values in series.items()
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


def fires(alert: str, *more: str) -> str:
    """The labels of an alert that fires."""
    severity = next(rule["labels"]["severity"] for rule in RULES if rule["alert"] == alert)
    return ",".join(filter(None, (f'alertname="{alert}",severity="{severity}"', *more)))


@pytest.mark.parametrize("alert", FAULTS)
def test_a_fault_fires_its_alert_and_no_other(alert: str, tmp_path: Path) -> None:
    changed, moment, more = FAULTS[alert]
    run_rule_tests(tmp_path, rule_test(changed, moment, [fires(alert, 'job="etl"', more)]))


def test_two_healthy_days_fire_no_alert_but_the_watchdog(tmp_path: Path) -> None:
    run_rule_tests(tmp_path, *(rule_test({}, moment, []) for moment in ("1m", "10m", "60m", "2880m")))


@pytest.mark.parametrize("name", NO_FAULTS)
def test_a_usual_setup_fires_no_alert_but_the_watchdog(name: str, tmp_path: Path) -> None:
    changed, moments = NO_FAULTS[name]
    run_rule_tests(tmp_path, *(rule_test(changed, moment, []) for moment in moments))


def test_a_first_minute_without_a_series_is_no_fault(tmp_path: Path) -> None:
    """As after an upgrade: no flow has a success yet, and no stream a figure."""
    absent = {name: "_x%d" for name in HEALTHY if not re.match("up|spillway_build_info|spillway_up", name)}
    run_rule_tests(tmp_path, rule_test(absent, "10m", []))


def test_without_an_interval_a_silent_drain_alerts_after_a_day_if_entries_wait(tmp_path: Path) -> None:
    silent = {_INTERVAL: _NONE, _SUCCESS % "drain": _FIXED, _LAG % "seconds": "0+STEPx%d"}
    firing = [fires("SpillwayDrainSilent", 'job="etl"'), fires("SpillwayLagGrowing", 'job="etl"', 'stream="s"')]
    run_rule_tests(tmp_path, rule_test(silent, f"{_DAY}m", firing))


def test_late_rows_that_nobody_compresses_for_26_hours_alert(tmp_path: Path) -> None:
    late = {_SUCCESS % "maintain": _NONE, _OVERDUE % "recompress": "3+0x%d"}
    firing = [
        fires("SpillwayCompressionBehind", 'job="etl"', 'table="t",action="recompress"'),
        fires("SpillwayScheduleNeverSucceeded", 'job="etl"', 'flow="maintain",version="1"'),
    ]
    run_rule_tests(tmp_path, rule_test(late, "1600m", firing), rule_test(late, "1540m", []))


@pytest.mark.parametrize("interval", ["3600+0x%d", _NONE])
def test_a_drain_that_never_succeeds_alerts_after_a_day_at_most(interval: str, tmp_path: Path) -> None:
    never = {_SUCCESS % "drain": _NONE, _INTERVAL: interval}
    firing = fires("SpillwayDrainNeverSucceeded", 'job="etl"', 'server="postgresql"')
    run_rule_tests(tmp_path, rule_test(never, "1600m", [firing]))


def of_instances(*changes: dict[str, str]) -> dict[str, str]:
    """The series of several exporters, each with its changes."""
    none = dict.fromkeys(HEALTHY, "_x%d")
    return none | {
        name.replace('job="etl"', f'job="etl",instance="{number}"'): values
        for number, changed in enumerate(changes)
        for name, values in {**HEALTHY, **changed}.items()
    }


@pytest.mark.parametrize(
    ("alert", "more"),
    [
        ("SpillwayExporterDown", ""),
        ("SpillwayDrainSilent", ""),
        ("SpillwayDrainNeverSucceeded", 'server="postgresql"'),
        ("SpillwayScheduleSilent", 'flow="maintain"'),
        ("SpillwayScheduleNeverSucceeded", 'flow="reconcile",version="1"'),
        ("SpillwayQuarantineGrowing", 'stream="s"'),
    ],
)
def test_a_fault_of_one_of_two_databases_fires_for_that_one(alert: str, more: str, tmp_path: Path) -> None:
    changed, moment, _ = FAULTS[alert]
    firing = fires(alert, 'job="etl",instance="1"', more)
    run_rule_tests(tmp_path, rule_test(of_instances({}, changed), moment, [firing]))


def test_an_exporter_that_is_taken_out_of_prometheus_is_no_fault(tmp_path: Path) -> None:
    gone = of_instances({}, {**_GONE, 'up{job="etl"}': "1 stale"})
    run_rule_tests(tmp_path, rule_test(gone, "30m", []))


def test_a_textfile_that_vanishes_is_a_fault_although_node_exporter_answers(tmp_path: Path) -> None:
    firing = fires("SpillwayExporterDown", 'job="etl",instance="1"')
    run_rule_tests(tmp_path, rule_test(of_instances({}, _GONE), "3m", [firing]))


def test_no_metrics_from_the_start_are_a_fault(tmp_path: Path) -> None:
    never = {name: "_x%d" for name in HEALTHY if name.startswith("spillway_")}
    run_rule_tests(tmp_path, rule_test(never, "2m", [fires("SpillwayExporterDown")]))


def test_an_exporter_that_never_answered_is_found_by_the_name_of_its_job(tmp_path: Path) -> None:
    never = {'up{job="spillway",instance="new"}': "0+0x%d"}
    firing = fires("SpillwayExporterDown", 'job="spillway",instance="new"')
    run_rule_tests(tmp_path, rule_test(never, "3m", [firing]))
