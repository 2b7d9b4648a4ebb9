"""Snapshots of domains: when they are due, which are kept."""
