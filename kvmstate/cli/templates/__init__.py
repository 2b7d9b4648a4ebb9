"""The files that `kvmstate init` writes."""
