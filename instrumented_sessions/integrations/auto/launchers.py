"""Which word of a launcher's command line names what it launches, such as `uv run --with x server.py`.

The value of an option may be a secret. So a word counts only where it cannot be one: options that are not
known here are taken to have a value, and after one of them only a script's name is believed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_NAME = re.compile(r"(?:[^\s:=?#&]*[/\\])?(@?[A-Za-z][\w.-]{0,63})[/\\]?")
_SCRIPT = re.compile(r".+\.(py|pyz|js|mjs|cjs|ts|mts|cts|tsx|jsx|jar|rb|sh)")


class Launcher(NamedTuple):
    """What may stand before the program on a launcher's command line."""

    flags: frozenset[str] = frozenset()
    """Options without a value."""
    valued: frozenset[str] = frozenset()
    """Options whose value is the next word."""
    naming: frozenset[str] = frozenset()
    """Options whose value is the program."""
    code: frozenset[str] = frozenset({"-c", "-e"})
    """Options that are followed by code, and by no program."""
    before: tuple[tuple[str, ...], ...] = ()
    """Words before the program."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PYTHON = Launcher(
    flags=_words("-b -bb -B -d -E -i -I -O -OO -P -q -s -S -u -v -x"),
    valued=_words("-W -X --check-hash-based-pycs"),
    naming=_words("-m"),
)
_NODE = Launcher(
    flags=_words("--enable-source-maps --experimental-strip-types --no-warnings --trace-warnings"),
    valued=_words("-r --require --import --loader --experimental-loader -C --conditions --env-file --title"),
    code=_words("-c -e -p -pe --eval --print"),
)
_NPX = Launcher(
    flags=_words("-y --yes -q --quiet --no-install --prefer-offline"),
    valued=_words("-p --package"),
    code=_words("-c --call"),
)
_UV = Launcher(
    flags=_words(
        "-q --quiet -v --verbose -n --no-cache --isolated --no-project --frozen --locked --offline --refresh"
        " --no-sync --active --no-config --no-progress --all-extras --no-dev -s --script"
    ),
    valued=_words(
        "--with --with-requirements --with-editable --from --directory --project -p --python --env-file"
        " --extra --group --index --default-index --index-url --extra-index-url --cache-dir -w"
    ),
    naming=_words("-m --module"),
    before=(("run",), ("tool",), ("tool", "run")),
)
_SCRIPTS = Launcher(flags=_words("-A -q --quiet --watch --hot --bun"), before=(("run",), ("x",)))
_JAVA = Launcher(valued=_words("-cp -classpath --class-path"), naming=_words("-jar"))
_SHELL = Launcher(flags=_words("-e -u -x -l -i --login --norc --noprofile"), code=_words("-c"))

_LAUNCHERS = {
    **dict.fromkeys(("python", "pypy"), _PYTHON),
    "node": _NODE,
    **dict.fromkeys(("npx", "pnpx", "bunx"), _NPX),
    "uv": _UV,
    "uvx": _UV._replace(naming=frozenset(), before=()),
    "pipx": Launcher(valued=_words("--spec --python --pip-args"), before=(("run",),)),
    **dict.fromkeys(("deno", "bun"), _SCRIPTS),
    "java": _JAVA,
    **dict.fromkeys(("sh", "bash"), _SHELL),
    "ruby": Launcher(),
}


def launcher_of(program: str) -> Launcher | None:
    """Return the launcher of that name, with a version or without; None when it is none."""
    return _LAUNCHERS.get(re.sub(r"[\d.]+$", "", program))


def launched(launcher: Launcher, args: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the name of what is launched, and its arguments; the name is empty where it is not certain."""
    is_certain = True
    before: tuple[str, ...] = ()
    place = 0
    while place < len(args):
        word = args[place]
        place += 1
        if word in launcher.naming and is_certain:
            return name_of("".join(args[place : place + 1])), args[place + 1 :]
        if word in launcher.code or (launcher is _SHELL and re.fullmatch(r"-\w*c\w*", word)):
            break
        if word in launcher.valued:
            place += 1
        elif word.startswith("-"):
            is_value_apart = word != "--" and "=" not in word and word not in launcher.flags
            if is_value_apart and place < len(args) and not args[place].startswith("-"):
                if _SCRIPT.fullmatch(args[place]):
                    break  # That may be its value, or the program.
                is_certain = False
                place += 1
        elif (*before, word) in launcher.before:
            before += (word,)
        else:
            name = name_of(word)
            return (name if is_certain or _SCRIPT.fullmatch(name) else ""), args[place:]
    return "", ()


def name_of(path: str) -> str:
    """Return the last part of a path or a package's name; empty when it looks like anything else."""
    found = _NAME.fullmatch(path)
    return found[1] if found is not None else ""
