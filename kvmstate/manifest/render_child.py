"""Runs as a process of its own: renders Jinja2 templates under limits on time, memory and output.

Guards inside the sandbox cannot name every way to burn time or memory (`'x' * 10**9`, `|center(10**9)`, doubling by
`~` in a loop): the process's limits do. It imports nothing of kvmstate, so that it starts fast.

Reads one JSON object: `values`; `templates`, pairs of a file and the folder that it may include from; and `room`, the
characters that all may make together. Writes one JSON line a template: `text` and what values it `reads`, or `error`
with `file` and `line`.
"""

import errno
import json
import os
import resource
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jinja2.runtime
from jinja2 import BaseLoader, StrictUndefined, TemplateError, TemplateNotFound, UndefinedError, meta, nodes
from jinja2.exceptions import FilterArgumentError
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import soft_str

MEMORY = 512 << 20
SECONDS = 0.8
MAX_TEXT = 10 << 20


class TooMuch(Exception):
    """The template asks for more than it may have."""


class Folder(BaseLoader):
    """Templates by absolute path, inside one folder; links out of it are not followed."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.read: set[str] = set()

    def get_source(self, environment: object, template: str) -> tuple[str, str, None]:
        path = os.path.realpath(template)
        if os.path.commonpath([path, self.root]) != self.root:
            raise TemplateNotFound(template, "templates may include only what is inside the manifests' folder")
        try:
            with open(path, encoding="utf-8-sig", opener=opened_without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file")
                text = file.read(MAX_TEXT + 1)
        except FileNotFoundError:
            raise TemplateNotFound(template, f"there is no template {template}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateNotFound(template, f"{template} cannot be read: {error}") from None
        if len(text) > MAX_TEXT:
            raise TooMuch(f"{template} is larger than {MAX_TEXT:,} characters")
        self.read.add(template)
        return text, template, None


def shown(value: object) -> object:
    """What is null in values is nothing in a text, not the word None."""
    return "" if value is None else value


def ipaddr(value: object, query: object = "") -> object:
    """What an address with its prefix length is asked for, in the words of Ansible's filter; a number is the address in
    that place of its network."""
    it = _interface(value)
    if isinstance(query, int) and not isinstance(query, bool):
        return f"{nthhost(value, query)}/{it.network.prefixlen}"
    answers: dict[object, Callable[[], object]] = {
        "": lambda: value,
        "address": lambda: str(it.ip),
        "host/prefix": lambda: it.with_prefixlen,
        "prefix": lambda: it.network.prefixlen,
        "netmask": lambda: str(it.netmask),
        "network": lambda: str(it.network.network_address),
        "broadcast": lambda: str(it.network.broadcast_address),
        "subnet": lambda: str(it.network),
        "size": lambda: it.network.num_addresses,
    }
    if query not in answers:
        known = ", ".join(str(each) for each in answers if each)
        raise FilterArgumentError(f"ipaddr knows no {query!r}, but {known} or a number")
    return answers[query]()


def nthhost(value: object, number: int) -> str:
    """The address in this place of a network: 1 is the first one after the network's own, -1 the last."""
    network = _interface(value).network
    try:
        return str(network[number])
    except (IndexError, TypeError):
        raise FilterArgumentError(f"{network} has no address number {number!r}") from None


def ipsubnet(value: object, prefix: int, number: int) -> str:
    """The part of a network with this prefix length in this place, from 0."""
    network = _interface(value).network
    try:
        size = 1 << (network.max_prefixlen - prefix)
        part = type(network)((int(network[0]) + number * size, prefix))
        if prefix < network.prefixlen or number < 0 or not part.subnet_of(network):
            raise ValueError
    except (ValueError, TypeError):
        raise FilterArgumentError(f"{network} has no part number {number!r} of prefix length {prefix!r}") from None
    return str(part)


def _interface(value: object) -> Any:
    from ipaddress import ip_interface  # few templates ask for addresses

    try:
        if isinstance(value, str):
            return ip_interface(value)
    except ValueError:
        pass
    raise FilterArgumentError(f"{value!r} is not an address or a network, such as 192.168.150.0/24")


def opened_without_waiting(path: str, flags: int) -> int:
    """A FIFO, or a terminal, might never say anything."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


class Environment(SandboxedEnvironment):
    """Names in include and import are relative to the file that has them, else to the folder."""

    intercepted_binops = frozenset(["*", "**"])

    def join_path(self, template: str, parent: str) -> str:
        near = os.path.join(os.path.dirname(parent), template)
        assert isinstance(self.loader, Folder)
        return near if os.path.exists(near) else os.path.join(self.loader.root, template)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> object:
        """Refuse the two operators that make much of little with a message of their own."""
        sizes = [value for value in (left, right) if isinstance(value, int)]
        if operator == "*" and len(sizes) == 1 and not isinstance(left, float) and not isinstance(right, float):
            other = right if isinstance(left, int) else left
            if sizes[0] * len(other) > MAX_TEXT:
                raise TooMuch("a repetition that is too long")
        if operator == "**" and len(sizes) == 2 and abs(right) * abs(left).bit_length() > 4096:
            raise TooMuch("a power that is too large")
        return super().call_binop(context, operator, left, right)


def main() -> None:
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    room = job["room"]
    for path, root in job["templates"]:
        # No handler: the signal ends the process even inside one long operation.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        answer = render(path, root, json.loads(job["values"]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        room -= len(answer.get("text", ""))
        if room < 0:
            answer = {"error": "the templates make too much text, all together", "file": path, "line": 0}
        print(json.dumps(answer), flush=True)


def render(path: str, root: str, values: object) -> dict[str, Any]:
    loader = Folder(root)
    environment = Environment(
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=shown
    )
    # `a ~ b` is compiled into a call of this, and knows nothing of finalize
    jinja2.runtime.str_join = lambda seq: "".join(str(shown(part)) for part in seq)
    environment.filters["string"] = lambda value: soft_str(shown(value))
    environment.filters |= {"ipaddr": ipaddr, "nthhost": nthhost, "ipsubnet": ipsubnet}
    environment.globals["values"] = values  # not in the context, which imports do not see
    # The same manifests must mean the same every time.
    environment.globals.pop("lipsum")
    environment.filters.pop("random")
    try:
        chunks, size = [], 0
        for chunk in environment.get_template(path).generate():
            size += len(chunk)
            if size > MAX_TEXT:
                raise TooMuch(f"the template makes more than {MAX_TEXT:,} characters")
            chunks.append(chunk)
        return {"text": "".join(chunks), "reads": reads(environment, loader, path)}
    except MemoryError:
        return {"error": "the template needs too much memory", "file": path, "line": 0}
    except RecursionError:
        return {"error": "the template is nested too deeply, or includes itself", "file": path, "line": 0}
    except Exception as error:
        return explained(error, path, loader.read)


def reads(environment: Environment, loader: Folder, path: str) -> list[list[str]] | None:
    """The values that a template, and all that it may include, read, as paths; None where that cannot be told."""
    found: set[tuple[str, ...]] = set()
    waiting, seen = [path], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            tree = environment.parse(loader.get_source(environment, name)[0])
        except (TemplateError, TooMuch):
            continue
        found.update(read_in(tree))
        for included in meta.find_referenced_templates(tree):
            if included is None:
                return None
            waiting.append(environment.join_path(included, name))
    return [list(path) for path in found]


# What mappings have besides what is in them
METHODS = {"get", "items", "keys", "values", "copy", "pop", "update", "setdefault"}


def read_in(node: nodes.Node, begun: bool = False) -> Iterator[tuple[str, ...]]:
    """Each place where values are read, with as much of its path as is written there. Of values.a.b, values.a is the
    beginning of what was `begun` above."""
    path = place(node)
    if path is not None and not begun:
        yield path
    for child in node.iter_child_nodes():
        yield from read_in(child, path is not None and child is getattr(node, "node", None))


def place(node: nodes.Node) -> tuple[str, ...] | None:
    """("web", "memory") for values.web.memory, values["web"].memory and values.web.get("memory")."""
    if isinstance(node, nodes.Name):
        return () if node.name == "values" else None
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "get":
        base, key = place(node.node.node), node.args[0] if node.args else None
    elif isinstance(node, nodes.Getattr):
        base, key = place(node.node), nodes.Const(node.attr) if node.attr not in METHODS else None
    elif isinstance(node, nodes.Getitem):
        base, key = place(node.node), node.arg
    else:
        return None
    if base is None:
        return None
    return (*base, key.value) if isinstance(key, nodes.Const) and isinstance(key.value, str) else base


def explained(error: Exception, path: str, templates: set[str]) -> dict[str, Any]:
    """The message, and the line of a template that raised it."""
    file, line = getattr(error, "filename", None), getattr(error, "lineno", None)
    if not (file and line):
        frames = traceback.extract_tb(error.__traceback__)
        places = [frame for frame in frames if frame.filename in templates]
        file, line = (places[-1].filename, places[-1].lineno) if places else (path, 0)
    message = str(error) or type(error).__name__
    kind = "undefined" if isinstance(error, UndefinedError) else ""
    if not isinstance(error, TemplateError | TooMuch | ValueError):
        message = f"{type(error).__name__}: {message}"
    return {"error": message[:1000], "kind": kind, "file": file, "line": line or 0}


if __name__ == "__main__":
    main()
