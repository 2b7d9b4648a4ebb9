"""`kvmstate inventory`: the guests that run, for Ansible and ssh."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.session import host_options, opened
from kvmstate.views.formats import Format, Output


@click.command("inventory")
@host_options
@click.option("--ansible", "form", flag_value="ansible", default=True, help="Ansible's, in YAML. The default.")
@click.option("--ssh-config", "form", flag_value="ssh-config", help="A file for Include in ~/.ssh/config.")
@click.option("--user", metavar="NAME", default="", help="Who logs in.")
@format_option
def command(fmt: Format, form: str, user: str, **given: Any) -> None:
    """Print the project's guests that run, and their addresses.

    Labels are groups of Ansible's: tier: web is tier_web. A guest whose address nobody knows yet is left out.
    """
    with opened(**{**given, "allow_empty": True, "claimed": False}) as at:
        addresses = at.session.addresses(at.state())
        labels = {resource.id: resource.metadata.labels for resource in at.session.resources}
    from kvmstate.manifest.write import document
    from kvmstate.views.inventory import Guest, ansible, ssh_config

    guests = [Guest(id_.name, labels.get(id_, {}), found) for id_, found in sorted(addresses.items())]
    hosts = ansible(guests, user)
    said = ssh_config(guests, user) if form == "ssh-config" else document(hosts).rstrip()
    show(fmt, Output(lambda: hosts, lambda: said))
