"""`kvmstate run` seen from outside, over HTTP.

address  where it listens, and where clients look for it
guard    who may ask, and over what: a token, and TLS
server   connections, of bounded number
handler  one connection, of bounded size and time
pages    what is answered: probes, metrics, status, events
client   asks a running daemon
"""
