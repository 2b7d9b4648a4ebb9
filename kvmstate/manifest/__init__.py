"""Manifests: YAML files, and templates of them, to validated resources."""

from kvmstate.manifest.load import load
from kvmstate.manifest.manifests import Manifests
from kvmstate.manifest.project import Project, load_project

__all__ = ["Manifests", "Project", "load", "load_project"]
