"""The devices of a virtual machine, one element of libvirt's each: https://libvirt.org/formatdomain.html#devices

A device is a file here, which says all that is special about it, and a field of the spec.
"""
