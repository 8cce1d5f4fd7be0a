"""The installations of a RUN line, which are checked for and never made: there is no network.

Invariant: a line is either understood as a whole, or refused by what was not understood in it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from .dockerfile import Instruction

#: Packages whose programs are called otherwise. Empty: it brings none.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "awk": ("awk",),
    "binutils": ("ld",),
    "bsdmainutils": ("column",),
    "build-essential": ("gcc", "g++", "make"),
    "ca-certificates": (),
    "coreutils": ("ls",),
    "diffutils": ("diff",),
    "findutils": ("find",),
    "gnupg": ("gpg",),
    "iproute2": ("ip",),
    "locales": (),
    "mawk": ("awk",),
    "netcat-openbsd": ("nc",),
    "openssh-client": ("ssh",),
    "procps": ("ps",),
    "python-is-python3": ("python",),
    "python3-pip": ("pip3",),
    "python3-venv": ("python3",),
    "ripgrep": ("rg",),
    "tzdata": (),
    "util-linux": ("flock",),
    "vim": ("vim",),
    "xxd": ("xxd",),
    "xz-utils": ("xz",),
}
APT = ("apt-get", "apt")
PIP = (("pip",), ("pip3",), ("python", "-m", "pip"), ("python3", "-m", "pip"), ("uv", "pip"))
#: Options that take the next word with them.
WITH_VALUE = {"-o", "-t", "-i", "--index-url", "--extra-index-url", "-c", "--constraint", "-f"}
NEEDS_NETWORK = re.compile(
    r"^(?:sudo\s+)?(?:"
    r"(?:curl|wget)\b.*\b(?:https?|ftp)://(?!localhost|127\.)"
    r"|git\s+clone\s+\S*(?:://|@)"
    r"|(?:npm|pnpm|yarn|gem|cargo|go|conda|brew|snap)\s+(?:ci|i|add|get|install)\b"
    r"|(?:apk|yum|dnf|zypper|pacman|add-apt-repository)\b"
    r"|uv(?:x|\s+(?:sync|add|tool))\b)"
)
COMPLEX = re.compile(r"[`|(){}]|<<|(?:^|[\s;&])(?:for|if|while|case|until|then|do)\s")
PIECE = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|&&|;|\n|[^'\"\\&;\n]+|.", re.DOTALL)


@dataclass(slots=True)
class Installs:
    """What must be here: programs of ``packages`` and distributions of Python in ``modules``;
    and ``rest``, the commands that remain to be run."""

    packages: list[str] = field(default_factory=list[str])
    modules: list[str] = field(default_factory=list[str])
    rest: str = ""


def installs(run: Instruction) -> Installs:
    """Raises TaskUnsupported."""
    text = " ".join(run.listed) if run.listed is not None else run.text
    pieces = list(segments(text))
    for piece, _ in pieces:
        if NEEDS_NETWORK.match(piece.strip()):
            raise run.refused(
                f"{piece.strip().split()[0]} needs the network, and there is none",
                "put what it brings into the environment folder, and COPY it",
            )
    if not any(is_installer(piece) for piece, _ in pieces):
        return Installs(rest=text)
    if COMPLEX.search(text):
        raise run.refused(
            "an installation inside of other shell constructs is not understood",
            "give the installation a RUN line of its own",
        )
    found, kept = Installs(), list[str]()
    for piece, separator in pieces:
        if not is_installer(piece) and not is_cleaning(piece):
            kept += [piece.strip(), separator]
        elif is_installer(piece):
            _add(run, shlex.split(piece), found)
    found.rest = " ".join(kept[:-1]).strip()
    return found


def segments(text: str) -> Iterator[tuple[str, str]]:
    """The commands between ``&&`` and ``;`` outside of quotes, and what follows each."""
    now = ""
    for found in PIECE.finditer(text):
        piece = found[0]
        if piece in ("&&", ";", "\n"):
            if now.strip():
                yield now, piece
            now = ""
        else:
            now += piece
    if now.strip():
        yield now, "&&"


def head(piece: str) -> list[str]:
    """Its words, without variables and sudo before it; none where a shell alone could say."""
    try:
        words = shlex.split(piece)
    except ValueError:
        return []
    while words and (re.match(r"[A-Za-z_]\w*=", words[0]) or words[0] in ("sudo", "env")):
        words.pop(0)
    return words


def is_installer(piece: str) -> bool:
    words = head(piece)
    return bool(words) and (words[0] in APT or any(tuple(words[: len(p)]) == p for p in PIP))


def is_cleaning(piece: str) -> bool:
    """Whether it only removes what installations left in an image, where commands are root's."""
    words = head(piece)
    places = ("/var/lib/apt/lists", "/var/cache/apt", "/root/.cache", "/tmp/")
    return words[:1] == ["rm"] and all(w.startswith(("-", *places)) for w in words[1:])


def _add(run: Instruction, words: list[str], found: Installs) -> None:
    words = head(shlex.join(words))
    length = 1 if words[0] in APT else max(len(p) for p in PIP if tuple(words[: len(p)]) == p)
    verb, named = "", list[str]()
    rest = iter(words[length:])
    for word in rest:
        if word in ("-r", "--requirement", "-e", "--editable") and words[0] not in APT:
            raise run.refused(f"{word} of pip is not understood", "name the modules in the line")
        if word in WITH_VALUE:
            next(rest, "")
        elif not word.startswith("-"):
            verb, named = (verb, [*named, word]) if verb else (word, named)
    if verb != "install":
        if words[0] in APT and verb in ("update", "clean", "autoclean", "autoremove", "upgrade"):
            return
        raise run.refused(f"{' '.join(words[:3])} is not understood", "leave it out")
    for name in named:
        if words[0] in APT:
            found.packages.append(re.split(r"[=/:]", name)[0])
        elif re.match(r"[A-Za-z0-9][\w.-]*(\[|[<>=!~;@ ]|$)", name) and "/" not in name:
            found.modules.append(re.split(r"[\[<>=!~;@ ]", name)[0])
        else:
            raise run.refused(
                f"pip install {name} is not understood", "name modules, or COPY the files"
            )
