"""kvmstate vm: what people do to virtual machines every day. A verb's module is imported when it is used."""

from __future__ import annotations

import importlib

import click

from kvmstate.errors import UsageError

# As --help lists them: the module below this package, and the command in it
VERBS = {
    "list": "look:list_",
    "top": "top:top",
    "start": "power:start",
    "shutdown": "power:shutdown",
    "poweroff": "power:poweroff",
    "reboot": "power:reboot",
    "reset": "power:reset",
    "pause": "power:pause",
    "unpause": "power:unpause",
    "save": "saving:save",
    "restore": "saving:restore",
    "wait": "waiting:wait",
    "console": "terminal:console",
    "ssh": "terminal:ssh",
    "display": "screens:display",
    "screenshot": "screens:screenshot",
    "send-key": "screens:send_key",
    "exec": "inside:exec_",
    "copy": "inside:copy",
    "migrate": "migrate:migrate",
}
# What people look for, and is called otherwise
ELSEWHERE = {
    "destroy": "`kvmstate vm poweroff` switches a machine off; `kvmstate destroy` deletes all that a project owns",
    "stop": "kvmstate vm shutdown",
    "kill": "kvmstate vm poweroff",
    "restart": "kvmstate vm reboot",
    "suspend": "kvmstate vm pause; `kvmstate suspend` makes kvmstate leave a resource alone",
    "resume": "kvmstate vm unpause; `kvmstate resume` ends a `kvmstate suspend`",
    "managedsave": "kvmstate vm save",
    "vnc": "kvmstate vm display",
    "ls": "kvmstate vm list",
    "status": "kvmstate vm list",
    "undefine": "take it out of the manifests; then kvmstate apply --prune",
    "delete": "take it out of the manifests; then kvmstate apply --prune",
    "create": "declare it in a manifest; then kvmstate apply",
    "edit": "edit its manifest; then kvmstate apply",
    "snapshot": "kvmstate snapshot",
    "events": "kvmstate events",
}


class Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        module, _, attribute = VERBS.get(name, "").partition(":")
        if not module:
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise UsageError(error.message, _meant(args[0]) or "kvmstate vm --help lists the verbs") from None


def _meant(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, VERBS, n=1)
    return ELSEWHERE.get(word) or (f"did you mean {close[0]}?" if close else "")


@click.group("vm", cls=Verbs)
def command() -> None:
    """Start, stop and look at virtual machines now.

    For every machine of a host, in a manifest or not. Each verb says what the machine's manifest will do next."""
