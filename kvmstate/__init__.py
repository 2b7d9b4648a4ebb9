"""kvmstate: virtual machines, networks and storage on KVM hosts, declared in YAML, kept true through libvirt."""

__version__ = "0.1.0"
