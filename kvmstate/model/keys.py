"""Keys by their names, as Linux knows them (input-event-codes.h), and which ones type a text on a US keyboard."""

from __future__ import annotations

_ROWS = {
    1: ("esc", *"1234567890", "minus", "equal", "backspace", "tab", *"qwertyuiop", "leftbrace", "rightbrace", "enter"),
    29: ("leftctrl", *"asdfghjkl", "semicolon", "apostrophe", "grave", "leftshift", "backslash", *"zxcvbnm"),
    51: ("comma", "dot", "slash", "rightshift", "kpasterisk", "leftalt", "space", "capslock"),
    59: (*(f"f{n}" for n in range(1, 11)), "numlock", "scrolllock"),
    87: ("f11", "f12"),
    97: ("rightctrl", "kpslash", "sysrq", "rightalt"),
    102: ("home", "up", "pageup", "left", "right", "end", "down", "pagedown", "insert", "delete"),
    116: ("power",),
    119: ("pause",),
    125: ("leftmeta", "rightmeta", "compose"),
}
KEYS = {name: start + at for start, row in _ROWS.items() for at, name in enumerate(row)}
_ALSO = {
    "ctrl": "leftctrl",
    "control": "leftctrl",
    "alt": "leftalt",
    "shift": "leftshift",
    "meta": "leftmeta",
    "super": "leftmeta",
    "win": "leftmeta",
    "escape": "esc",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "print": "sysrq",
    "altgr": "rightalt",
}
_SIGNS = {
    " ": "space",
    "\n": "enter",
    "\t": "tab",
    "-": "minus",
    "=": "equal",
    "[": "leftbrace",
    "]": "rightbrace",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave",
    "\\": "backslash",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
_SHIFTED = dict(zip('~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./", strict=True))


def chord(text: str) -> list[int]:
    """The codes of keys that are pressed together, such as ctrl-alt-delete, or libvirt's KEY_LEFTCTRL. Raises
    ValueError for another word."""
    names = text.lower().replace("+", "-").split("-")
    return [_code(name) for name in names]


def typing(text: str) -> list[list[int]]:
    """The chords that type a text on a US keyboard. Raises ValueError for a character that it has no key for."""
    return [_typed(char) for char in text]


def _code(name: str) -> int:
    plain = name.removeprefix("key_")
    plain = _ALSO.get(plain, plain)
    if plain not in KEYS:
        raise ValueError(f"{name!r} is not a key")
    return KEYS[plain]


def _typed(char: str) -> list[int]:
    plain = _SHIFTED.get(char, char.lower())
    name = _SIGNS.get(plain, plain)
    if name not in KEYS:
        raise ValueError(f"no key of a US keyboard types {char!r}")
    return [KEYS[name]] if plain == char else [KEYS["leftshift"], KEYS[name]]
