"""`kvmstate run` seen from outside, over HTTP.

address  where it listens, and where clients look for it
server   connections: bounded in number, size and time; a token, and TLS
pages    what is answered: probes, metrics, status, events
client   asks a running daemon
"""
