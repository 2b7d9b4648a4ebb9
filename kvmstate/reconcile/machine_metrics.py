"""Series for each machine of a project that runs; names are those of Prometheus' conventions, labels `name` and
`project`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvmstate.host.stats import Sample

# By metric: what it is, and the attribute of a sample, a disk or an interface
_GAUGES = {
    "cpus": ("Virtual CPUs.", "cpus"),
    "memory_bytes": ("Memory of the guest.", "memory"),
    "memory_used_bytes": ("Memory that the guest uses; resident memory where it does not tell.", "used"),
    "memory_resident_bytes": ("Memory that the host has given.", "resident"),
}
_DISKS = {
    "disk_read_bytes": ("Bytes read from the disk.", "read_bytes"),
    "disk_written_bytes": ("Bytes written to the disk.", "write_bytes"),
    "disk_reads": ("Reads from the disk.", "read_requests"),
    "disk_writes": ("Writes to the disk.", "write_requests"),
    "disk_read_seconds": ("Time that reads took.", "read_seconds"),
    "disk_write_seconds": ("Time that writes took.", "write_seconds"),
}
_NICS = {
    "network_receive_bytes": ("Bytes that the guest received.", "rx_bytes"),
    "network_transmit_bytes": ("Bytes that the guest sent.", "tx_bytes"),
    "network_receive_packets": ("Packets that the guest received.", "rx_packets"),
    "network_transmit_packets": ("Packets that the guest sent.", "tx_packets"),
    "network_receive_errors": ("Errors of packets that came.", "rx_errors"),
    "network_transmit_errors": ("Errors of packets that were sent.", "tx_errors"),
    "network_receive_drops": ("Packets that came and were dropped.", "rx_dropped"),
    "network_transmit_drops": ("Packets that were sent and dropped.", "tx_dropped"),
}
_LABELS = ["name", "project"]


def families(project: str, machines: Iterable[Sample]) -> Iterator[Metric]:
    """Make the series of these machines."""
    machines = list(machines)
    running = GaugeMetricFamily("kvmstate_machine_running", "1 if it runs, 0 if it is paused.", labels=_LABELS)
    cpu = CounterMetricFamily("kvmstate_machine_cpu_seconds", "CPU time, of all its CPUs.", labels=_LABELS)
    for each in machines:
        running.add_metric([each.name, project], each.state == "running")
        cpu.add_metric([each.name, project], each.cpu_seconds)
    yield from (running, cpu)
    for name, (text, key) in _GAUGES.items():
        gauge = GaugeMetricFamily(f"kvmstate_machine_{name}", text, labels=_LABELS)
        for each in machines:
            if (value := getattr(each, key)) is not None:
                gauge.add_metric([each.name, project], value)
        yield gauge
    for devices, metrics in (("disks", _DISKS), ("nics", _NICS)):
        for name, (text, key) in metrics.items():
            counter = CounterMetricFamily(f"kvmstate_machine_{name}", text, labels=[*_LABELS, "device"])
            for each in machines:
                for device in getattr(each, devices):
                    counter.add_metric([each.name, project, device.name], getattr(device, key))
            yield counter
