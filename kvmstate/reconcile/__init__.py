"""`kvmstate run`: what keeps a host as its manifests say.

agenda    what is to be looked at, and when: one queue, with backoff for each thing in it
watch     the manifests' files, as they change
git       manifests from a repository: a revision is in force when all of it is here and verified
hearing   what libvirt's events are taken for
loop      does what is due, one thing at a time, whatever goes wrong
keeper    one look at the host, and what may be done about it; it says so on the board
rules     what may be done now: modes, windows, confirmations
calendar  what goes by the clock on the wall
board     the state of everything, for whoever wants to know, and what happened
outside   who wants to know: over HTTP, as metrics, by notifications
"""
