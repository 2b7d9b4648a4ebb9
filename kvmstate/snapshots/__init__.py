"""Snapshots of domains: external ones as chains of qcow2 overlays, made, reverted and merged alike on every libvirt.

`chain` is the picture of what is there; `create`, `revert` and `merge` change it. Every change is a row of steps, each
of which may be the last one of a run that dies: the same command goes on from there. Files are deleted only when no
domain, image or snapshot of the host refers to them. `record` writes into a snapshot which policy took it.
"""
