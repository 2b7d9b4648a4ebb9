"""The daemon's loop: what there is to do, turn by turn."""

from __future__ import annotations

from kvmstate.manifest.project import Project
from kvmstate.reconcile.desired import Desired, Source
from kvmstate.reconcile.loop import Loop
from kvmstate.reconcile.status_store import State, StatusStore
from kvmstate.reconcile.workqueue import Task


def test_a_reload_that_comes_during_one_is_done_too() -> None:
    project, read = Project(connection="test:///default"), list[int]()

    def load() -> Desired:
        read.append(len(read))
        if len(read) == 1:
            # SIGHUP, while the files are read as they were
            loop.queue.add(loop.refresh)
        return Desired(project, ())

    loop = Loop(Source(lambda: project, load), StatusStore(State()))
    loop._turn({loop.refresh})
    assert loop.refresh is Task.MANIFESTS
    assert read == [0, 1]
