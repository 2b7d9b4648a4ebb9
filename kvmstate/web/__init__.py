"""`kvmstate run` seen from outside, over HTTP. Nothing here talks to libvirt.

endpoints  all that a daemon shows, put together
address    where it listens, and where clients look for it
guard      who may ask, and over what: a token, and TLS
server     connections, of bounded number
handler    one connection, of bounded size and time
pages      what is answered: probes, metrics, status, events
status     the status store as JSON
client     asks a running daemon
"""
