"""kvmstate: virtual machines, networks and storage on KVM hosts, declared in YAML."""

__version__ = "0.1.0"
