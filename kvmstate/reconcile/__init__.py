"""`kvmstate run`: what keeps a host as its manifests say.

loop          does what is due, one thing at a time, whatever goes wrong
workqueue     what is to be looked at, and when: one queue, with backoff for each thing in it
desired       the manifests in force, and where they come from
triggers      what libvirt's events are taken for
scheduler     what goes by the clock on the wall
reconciler    one look at the host, and what may be done about it; it says so in the status store
gates         what may be done now: modes, windows, confirmations
leader        which of several daemons acts
spool         what volumes are filled with is fetched before
statuses      what a pass makes of each resource
status_store  the state of everything, for whoever wants to know, and what happened
stats         figures that passes have seen anyway
sampler       what machines use, looked at now and then for the metrics

Who subscribes to the status store: journal, log, metrics, notify, systemd, and what `kvmstate.web` answers.
"""
