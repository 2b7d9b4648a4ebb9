"""`kvmstate doctor`: what a host lacks, and how to fix it."""

from __future__ import annotations

import click

from kvmstate.cli import colour
from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import connect_option, inputs
from kvmstate.views.formats import TEXT, Format


@click.command("doctor")
@connect_option
@format_option
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: nothing is wrong; 2: warnings; 1: errors.")
def command(connect: str | None, fmt: Format, detailed_exitcode: bool) -> int:
    """Check a host for problems, and say how to fix them.

    Checked are libvirt, virtualisation, programs, storage, and what interrupted runs have left. Exit 0: usable, perhaps
    with warnings; 1: not usable. Run it on the host itself to check everything. Nothing is changed.
    """
    uri = connect or inputs(()).project().connection
    from kvmstate.doctor import Severity, examine
    from kvmstate.views import doctor

    findings = []
    for finding in examine(uri):
        findings.append(finding)
        if fmt == TEXT:
            text, hue = doctor.line(finding), doctor.COLOURS.get(finding.severity)
            click.echo(click.style(text, fg=hue) if hue else text, color=colour())
    show(fmt, doctor.output(findings))
    worst = {finding.severity for finding in findings}
    if Severity.ERROR in worst:
        return 1
    return 2 if detailed_exitcode and Severity.WARNING in worst else 0
