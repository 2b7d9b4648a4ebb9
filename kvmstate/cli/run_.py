"""`kvmstate run`: keep the host as the manifests say."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.git_options import git_options, git_source
from kvmstate.cli.listen_options import listen_options
from kvmstate.cli.options import Inputs, connect_option, credential, inputs, manifest_options
from kvmstate.cli.session import no_manifests
from kvmstate.errors import UsageError
from kvmstate.model.stopping import stopping

if TYPE_CHECKING:
    from kvmstate.manifest import Project

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@click.command("run")
@manifest_options
@connect_option
@git_options
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_default=True,
    help="auto: console on a terminal, JSON elsewhere.",
)
@listen_options
@click.option(
    "--credential",
    "credentials",
    metavar="NAME:FILE",
    multiple=True,
    callback=lambda _, __, given: dict(map(credential, given)),
    help="A secret that the notifications of kvmstate.yaml name. Repeatable. With --git there are no others, but those "
    "of systemd's.",
)
def command(
    log_format: str,
    listen: str,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    credentials: dict[str, Path],
    **given: Any,
) -> int:
    """Keep a host as its manifests declare, as a daemon.

    Watches the manifests and libvirt's events, corrects what differs, and takes what snapshot policies ask for. With
    --git the manifests are those of a repository: what cannot be fetched or is not to be trusted changes nothing.
    SIGHUP reloads the manifests; SIGTERM and Ctrl-C finish what is running and stop. It answers over HTTP: /healthz,
    /readyz, /metrics, /status, /events, and POST /reconcile.
    """
    from kvmstate.reconcile.desired import Desired, Source
    from kvmstate.reconcile.log import log_to_stderr
    from kvmstate.reconcile.loop import Loop
    from kvmstate.reconcile.notify.credentials import Credentials
    from kvmstate.reconcile.status_store import State, StatusStore
    from kvmstate.reconcile.systemd import Supervised
    from kvmstate.reconcile.workqueue import Task
    from kvmstate.sources.watch import Watch
    from kvmstate.web.endpoints import Endpoints

    # waited for, not handled: a handler runs when the main thread is woken, and another one may be given the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # the options' own secrets are for nobody else
    keys = tuple(filter(None, (given["git_ssh_key"], given["git_token"], token_file, tls_key)))
    source = git_source(given)
    asked = inputs(**given)
    # a daemon's garbage matters
    gc.enable()
    # a crash in libvirt, and systemd's SIGABRT to one that hangs, leave in the log where each thread was
    faulthandler.enable()

    def now() -> Inputs:
        if source is None:
            return asked
        # what a repository says is nobody's word on this machine
        return replace(asked, paths=(source.folder,), allowed=(*asked.allowed, source.checkout), confined=True)

    told: list[str] = []

    def load() -> Desired:
        loaded = now().load(valued=True)
        if loaded.manifests.empty:
            raise UsageError(
                *no_manifests(loaded.manifests.empty, "if it shall keep nothing, a comment in a file says so")
            )
        if loaded.manifests.warnings != tuple(told):
            told[:] = loaded.manifests.warnings
            for text in told:
                status.record_event("ValueUnread", text, warning=True)
        return Desired(loaded.project, loaded.manifests.resources, loaded.manifests.place, loaded.whole)

    def stamp() -> object:
        # of values nothing is told: they are read again with each regular look
        return watch.stamp(), object() if asked.secrets or asked.secrets_files else None

    status = StatusStore(State(revision=source.revision if source else None))
    log_to_stderr(status, log_format == "json" or (log_format == "auto" and not sys.stderr.isatty()))
    # a fetch itself says that there is something new
    here = asked.values if source else asked.paths or (Path("."),)
    watch = Watch(here, lambda: loop.queue.add(Task.MANIFESTS))

    def found(project: Project) -> None:
        # what a repository may hold of secrets is none
        folder = None if source else project.file.parent if project.file else Path(".")
        secrets = Credentials(credentials, folder, project.reach, keys)
        endpoints.notifier.configure(project.reconcile.notifications, secrets)
        if source:
            return
        file = [project.file] if project.file else []
        watch.watch([*here, *(project.paths if project.file else ()), *file, *project.skip])

    fetching = (source.fetch, source.interval, source.reading, source.named) if source else ()
    chosen = replace(asked, confined=asked.confined or source is not None).uri
    loop = Loop(Source(lambda: now().project(), load, chosen, found, stamp, *fetching), status)
    supervised = Supervised(loop, status)
    endpoints = Endpoints(status, loop.queue, lambda: loop.alive, loop.refresh)
    endpoints.listen(listen, token_file, tls_cert, tls_key)

    broken = threading.Event()

    def work() -> None:
        try:
            loop.run()
        finally:
            if not loop.stop.is_set():
                # only a bug ends it
                broken.set()
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=work, name="loop")
    watch.start()
    supervised.start()
    thread.start()
    while (number := signal.sigwait(SIGNALS)) == signal.SIGHUP:
        supervised.reloading()
        loop.queue.add(loop.refresh, Task.EVERYTHING)
    supervised.stopping()
    loop.stop.set()
    stopping.set()
    loop.queue.wake()
    # once more ends it at once
    signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    thread.join()
    watch.close()
    endpoints.close()
    return 1 if broken.is_set() else 0
