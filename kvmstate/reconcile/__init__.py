"""`kvmstate run`: what keeps a host as its manifests say.

agenda   what is to be looked at, and when: one queue, with backoff for each thing in it
watch    the manifests' files, as they change
loop     does what is due, one thing at a time, and says so on the board
rules    what may be done now: modes, windows, confirmations
board    the state of everything, for whoever wants to know, and what happened
outside  what of that is seen from outside: journal, web, metrics, notify
git      manifests from a repository: a revision is in force when all of it is here and verified
"""
