"""`kvmstate run` as a service of systemd: the files of it, and which of them may be written.

`kvmstate@.service` is a template unit, one instance a project; a project's own settings are a drop-in of its instance.
"""
