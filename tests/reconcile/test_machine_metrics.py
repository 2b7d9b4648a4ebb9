"""What machines use: rates, the table of `vm top`, and series for Prometheus."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kvmstate.host.stats import Disk, Nic, Sample, usage
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.status_store import ResourceStatus, State, StatusStore, Sync
from kvmstate.reconcile.workqueue import WorkQueue
from kvmstate.views.top import output, short

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
FIRST = Sample(
    *("web-1", "u1", "running", 10.0, 2, 5.0, 1 << 30, 1 << 28, 1 << 29),
    (Disk("vda", 1000, 2000, 10, 20, 0.5, 0.25),),
    (Nic("vnet0", 100, 200, 1, 2, 3, 4, 5, 6),),
)


def later(**fields: object) -> Sample:
    return replace(FIRST, **{"at": 12.0, "cpu_seconds": 6.0, **fields})  # type: ignore[arg-type]


def test_rates_are_of_what_is_there_before_and_after() -> None:
    disks = (Disk("vda", 3000, 2000, 12, 20), Disk("vdb", 10**9))
    (found,) = usage([FIRST], [later(disks=disks)])
    assert found.cpu == 50.0
    assert (found.rates["disk_read_bytes"], found.rates["disk_read_requests"]) == (1000.0, 1.0)
    assert found.sample.used == (1 << 30) - (1 << 28)
    # another start of it, another machine of its name, and one that has just come
    for then in ([replace(FIRST, cpu_seconds=9.0)], [replace(FIRST, uuid="u2")], []):
        (found,) = usage(then, [later()])
        assert (found.cpu, found.rates["net_rx_bytes"]) == (None, None)


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (1000, "1.0K"), (1536, "1.5K"), (10 << 10, "10K"), (999 << 20, "999M")],
)
def test_numbers_are_short(number: float | None, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("width", "shown"), [(60, "%CPU MEM"), (80, "STATE CPUS %CPU"), (120, "IOPS STATE"), (None, "IOPS STATE")]
)
def test_the_table_is_as_wide_as_the_terminal(width: int | None, shown: str) -> None:
    known = [FIRST, replace(FIRST, name="a-machine-with-quite-a-long-name-" * 3, uuid="u2", cpu_seconds=4.0)]
    text = output("qemu:///system", usage(known, [replace(each, at=12.0) for each in known]), "name", width).text()
    head, rows = text.splitlines()[2], text.splitlines()[3:]
    assert width is None or max(map(len, text.splitlines())) <= width
    assert set(shown.split()) <= set(head.split())
    assert ("IOPS" in head) == ("IOPS" in shown)
    assert rows[0].startswith("a-machine-")
    assert rows[1].startswith("web-1 ")


def test_each_machine_of_the_project_has_series() -> None:
    status = StatusStore(State(project="shop", machines=(FIRST, later(name="b", state="paused", usable=None))))
    status.update_resources([ResourceStatus(ResourceId("domain", "web-1"), Sync.IN_SYNC)])
    families = text_string_to_metric_families(Metrics(status, WorkQueue()).text().decode())
    found = {(s.name, s.labels.get("name"), s.labels.get("device")): s.value for f in families for s in f.samples}
    assert found["kvmstate_machine_running", "web-1", None] == 1
    assert found["kvmstate_machine_running", "b", None] == 0
    assert found["kvmstate_machine_cpu_seconds_total", "web-1", None] == 5
    assert found["kvmstate_machine_memory_used_bytes", "b", None] == 1 << 29
    assert found["kvmstate_machine_disk_written_bytes_total", "web-1", "vda"] == 2000
    assert found["kvmstate_machine_network_receive_drops_total", "web-1", "vnet0"] == 5


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    status = StatusStore(State(machines=(FIRST,)))
    known = set(re.findall(r"^# TYPE (\S+) ", Metrics(status, WorkQueue()).text().decode(), re.MULTILINE))
    dashboard = json.loads((ASSETS / "grafana-machines.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [each["query"] for each in dashboard["templating"]["list"]]
    rules = yaml.safe_load((ASSETS / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked += [rule["expr"] for rule in rules]
    names = {name for text in asked for name in re.findall(r"kvmstate_\w+", text)}
    assert len(names) > 10
    assert names <= known
