"""Prometheus' metrics: what has been counted, and the status store as it is. Names are those of controller-runtime and
of Kubernetes' workqueue where they have the thing. No label is a resource's name, but a pool's or a policy's, and a
machine's where `reconcile.metrics: machines` asks for that."""

from __future__ import annotations

import platform
import time
from collections import Counter as Count
from collections.abc import Iterator, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from kvmstate import __version__
from kvmstate.reconcile import machine_metrics
from kvmstate.reconcile.status_store import ConditionType, Event, ReconcileResult, StatusStore, Sync
from kvmstate.reconcile.workqueue import WorkQueue

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
# a series more for every counter, which says when this process was started
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Subscribes to the status store; `text` looks at nothing but the status store and the queue."""

    def __init__(self, status: StatusStore, queue: WorkQueue, notified: Mapping[tuple[str, str], int] = {}) -> None:
        """`notified` counts notifications, by their receiver's type and what became of them."""
        self.registry = registry = CollectorRegistry()
        self._status, self._queue, self._notified = status, queue, notified
        self._passes = Counter(
            "kvmstate_controller_reconcile",
            "Reconciliations, by result.",
            ["result"],
            registry=registry,
        )
        self._errors = Counter(
            "kvmstate_controller_reconcile_errors", "Reconciliations in which a change failed.", registry=registry
        )
        self._seconds = Histogram(
            "kvmstate_controller_reconcile_time_seconds",
            "Duration of reconciliations, changes included.",
            ["scope"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._changed = Counter("kvmstate_resources_changed", "Changes made to resources.", registry=registry)
        self._events = Counter("kvmstate_events", "Events, by reason and type.", ["reason", "type"], registry=registry)
        self._detected = Counter(
            "kvmstate_drift_detected",
            "Differences found that were made outside of kvmstate.",
            ["kind"],
            registry=registry,
        )
        self._corrected = Counter(
            "kvmstate_drift_corrected",
            "Differences corrected that were made outside of kvmstate.",
            ["kind"],
            registry=registry,
        )
        for result in ("success", "error"):
            self._passes.labels(result)
        for scope in ("whole", "partial"):
            self._seconds.labels(scope)
        ProcessCollector(registry=registry)
        registry.register(self)
        status.subscribe(self._told, self._passed)

    def text(self) -> bytes:
        return prometheus_client.generate_latest(self.registry)

    def _passed(self, done: ReconcileResult) -> None:
        self._passes.labels("error" if done.failed else "success").inc()
        if done.failed:
            self._errors.inc()
        self._seconds.labels("whole" if done.whole else "partial").observe(done.seconds)
        self._changed.inc(done.changed)

    def _told(self, event: Event) -> None:
        self._events.labels(event.reason, "Warning" if event.warning else "Normal").inc()
        kind = event.resource.partition("/")[0]
        if event.reason in ("DriftCorrected", Sync.DRIFTED.value):
            self._detected.labels(kind).inc()
        if event.reason == "DriftCorrected":
            self._corrected.labels(kind).inc()

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client, at each scrape."""
        state, queue = self._status.state, self._queue

        def gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
            if value is not None:
                yield GaugeMetricFamily(f"kvmstate_{name}", text, value)

        yield InfoMetricFamily(
            "kvmstate_build", "Version of the daemon.", {"version": __version__, "python": platform.python_version()}
        )
        yield from gauge("workqueue_depth", "Current depth of the work queue.", queue.depth)
        yield CounterMetricFamily("kvmstate_workqueue_adds", "Requests added to the work queue.", queue.adds)
        yield CounterMetricFamily(
            "kvmstate_workqueue_retries", "Requests that failed and are tried again.", queue.retries
        )
        resources = GaugeMetricFamily(
            "kvmstate_resources", "Resources, by kind and sync state.", labels=["kind", "sync"]
        )
        counts = Count((id_.kind, resource.sync) for id_, resource in state.resources.items())
        for kind in sorted({kind for kind, _ in counts}):
            for sync in Sync:
                resources.add_metric([kind, sync.value], counts[kind, sync])
        yield resources
        yield from gauge(
            "restarts_pending", "Machines with changes that wait for a restart.", state.counts()[Sync.RESTART_PENDING]
        )
        yield from gauge(
            "leader_election_master_status", "1 if this daemon is the leader, 0 if it is on standby.", not state.standby
        )
        yield from gauge("ready", "1 after the first full check, if the host answers.", state.ready)
        for condition, name, text in (
            (ConditionType.HOST, "host_reachable", "1 if libvirt answers."),
            (ConditionType.MANIFESTS, "manifests_valid", "1 if the manifests in the files are valid and in force."),
            (ConditionType.SOURCE, "source_reachable", "1 if the manifests can be fetched."),
        ):
            yield from gauge(name, text, condition not in state.conditions)
        # the second is the name of earlier versions, for one release
        for name in ("kvmstate_condition", "kvmstate_trouble"):
            conditions = GaugeMetricFamily(name, "1 for each condition that holds.", labels=["reason"])
            for condition in ConditionType:
                conditions.add_metric([condition.value[0]], condition in state.conditions)
            yield conditions
        last = state.last_success.timestamp() if state.last_success else None
        yield from gauge("last_success_timestamp_seconds", "End of the last reconciliation without a failure.", last)
        if state.last_result:
            yield from gauge(
                "last_pass_timestamp_seconds",
                "Start of the last reconciliation.",
                state.last_result.started.timestamp(),
            )
        if revision := state.revision:
            yield InfoMetricFamily(
                "kvmstate_source",
                "Revision of the manifests in force.",
                {"revision": revision.commit, "ref": revision.ref},
            )
            yield from gauge(
                "source_revision_timestamp_seconds", "Commit time of the revision in force.", revision.time.timestamp()
            )
        for name in ("capacity", "allocation", "available"):
            space = GaugeMetricFamily(
                f"kvmstate_pool_{name}_bytes", "Space of the pool, as of the last full check.", labels=["pool"]
            )
            for pool, figures in state.pools.items():
                space.add_metric([pool], getattr(figures, name))
            yield space
        families: dict[str, GaugeMetricFamily] = {}
        for each in state.gauges:
            family = GaugeMetricFamily(f"kvmstate_{each.name}", each.text, labels=[*each.labels])
            family = families.setdefault(each.name, family)
            family.add_metric([*each.labels.values()], max(0.0, time.time() - each.since.timestamp()))
        yield from families.values()
        yield from machine_metrics.families(state.project, state.machines)
        told = CounterMetricFamily(
            "kvmstate_notifications", "Notifications, by type and result.", labels=["type", "result"]
        )
        for (kind, result), count in sorted(self._notified.items()):
            told.add_metric([kind, result], count)
        yield told
