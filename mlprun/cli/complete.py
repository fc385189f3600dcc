"""TAB completion of a command line, for which Hydra's scripts for bash, zsh and fish ask."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlprun.cli.last import LAST, METAVAR
from mlprun.cli.verbs import VERBS, parser_of
from mlprun.config.project import find_project

# bash splits what is offered at blanks, and executes `$(…)` in it: a folder's name is a stranger's.
_IS_HARMLESS = re.compile(r"[\w+~./=,@%\[-]+").fullmatch
_NOT_SUPPORTED = ("--config-path", "--experimental-rerun", "--run")
_RUN_KEYS = ("trainer.weights", "data.text.vocabulary")  # which take a run
_PRIMARY = "config"
MOST_RUNS = 60  # of which folders are looked into


def answer(arguments: Sequence[str]) -> bool:
    """Print what completes the line in COMP_LINE, if Hydra's script asks for it; nothing if that fails."""
    query = next((word.removeprefix("query=") for word in arguments if word.startswith("query=")), None)
    if query is None or not {"-sc", "--shell-completion"} & {*arguments}:
        return False
    offered: list[str] = []
    shows_errors = os.environ.get("MLPRUN_TRACEBACK") == "1"
    # A message would appear in the middle of the line that the user is typing.
    with contextlib.ExitStack() as quiet:
        if not shows_errors:
            quiet.enter_context(contextlib.redirect_stderr(quiet.enter_context(open(os.devnull, "w"))))
            quiet.enter_context(contextlib.suppress(Exception))
        line = os.environ.get("COMP_LINE", "")
        point = os.environ.get("COMP_POINT", "")
        offered = offers(line[: int(point)] if point.isdecimal() else line)
        if query == "fish" and not offered:  # bash and zsh complete files themselves
            offered = [path for path in _paths((line.split(" ") or [""])[-1]) if _IS_HARMLESS(path)]
    print(*offered, sep="\n" if query == "fish" else " ")
    return True


def offers(line: str) -> list[str]:
    """The completions of the last word of `line`, sorted."""
    words = line.split()
    word = words.pop() if words and not line[-1:].isspace() else ""
    words = words[1:]  # the first is the program
    verb = words[0] if words and words[0] in VERBS else None
    found = _of_verb(verb, words[1:], word) if verb else _of_run(words, word)
    return sorted({each for each in found if each.startswith(word) and _IS_HARMLESS(each)})


def _of_verb(verb: str, words: Sequence[str], word: str) -> Iterable[str]:
    module, parser = parser_of(verb)
    options, option = _options(parser), _option_before(parser, words)
    if option is not None:
        return _values_of_option(option, words)
    if word.startswith("-"):
        return options
    positionals = [action for action in parser._actions if not action.option_strings]
    place = len(_positionals(parser, words))
    action = positionals[min(place, len(positionals) - 1)]
    if action.metavar == METAVAR and (place < len(positionals) or action.nargs == "+"):
        return [LAST, *_runs(word)]
    if verb == "experiments":
        return [name for each in module.ready() for name in (each.name, each.topic)]
    if verb == "inspect":
        return _overrides(_positionals(parser, words), word, *_config_of(words))
    if verb == "help":
        names = [name.rstrip("=") for name in _overrides(_positionals(parser, words), word, *_config_of(words))]
        return names if "=" in word else [*VERBS, *names, *(f"{name}=" for name in names if name == word)]
    if verb == "resume":
        from mlprun.cli.resume import CHANGEABLE
        from mlprun.config.identity import RESUMABLE

        found, known = _overrides([], word, *_config_of(words)), (*RESUMABLE, *CHANGEABLE, "data.root")
        return [each for each in found if each.startswith(known) or any(key.startswith(each) for key in known)]
    return ["data.root="] if verb == "eval" else []  # none: the shell completes files


def _of_run(words: Sequence[str], word: str) -> Iterable[str]:
    from mlprun.config.hydra_private import argument_parser

    parser = argument_parser()
    if (option := _option_before(parser, words)) is not None:
        return _values_of_option(option, words)
    if word.startswith("-"):
        return [option for option in _options(parser) if option not in _NOT_SUPPORTED]
    verbs = [] if words else VERBS
    return [*verbs, *_overrides(_positionals(parser, words), word, *_config_of(words))]


def _options(parser: argparse.ArgumentParser) -> list[str]:
    shown = (action for action in parser._actions if action.help != argparse.SUPPRESS)
    return [name for action in shown for name in action.option_strings if name.startswith("--")]


def _option_before(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Action | None:
    """The option that the last of `words` is, if it takes a value."""
    action = parser._option_string_actions.get(words[-1]) if words else None
    return action if action is not None and action.nargs in (None, "?") else None


def _values_of_option(option: argparse.Action, words: Sequence[str]) -> Iterable[str]:
    if "--config-name" in option.option_strings:
        folder = _config_of(words)[0]
        return [_PRIMARY, *(file.stem for file in Path(folder or os.devnull).glob("*.yaml"))]
    metavar = option.metavar if isinstance(option.metavar, str) and "|" in option.metavar else ""
    return option.choices or metavar.split("|")  # neither: the shell completes files


def _positionals(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The words that are neither an option nor the value of one."""
    return [
        word
        for number, word in enumerate(words)
        if not word.startswith("-") and _option_before(parser, words[:number]) is None
    ]


def _config_of(words: Sequence[str]) -> tuple[str | None, str]:
    """The values of `--config-dir`, which a project names too, and `--config-name`."""
    found: dict[str, str] = {}
    for word, value in zip(words, [*words[1:], ""], strict=False):
        name, equals, attached = word.partition("=")
        found[name] = attached if equals else value
    folder = found.get("--config-dir") or found.get("-cd") or find_project().conf
    return folder and os.path.expanduser(folder), found.get("--config-name") or found.get("-cn") or _PRIMARY


def _overrides(words: Sequence[str], word: str, config_dir: str | None, config_name: str) -> Iterable[str]:
    """Groups, their options, keys and their values."""
    from mlprun.config.completion import Completion

    sign = re.match(r"[+~]*", word)[0]  # type: ignore[index]  # matches always
    key, equals, value = word.removeprefix(sign).partition("=")
    completion = Completion(words, config_dir, config_name)
    if not equals:
        found = completion.names(key)
        return [f"{sign}{name.rstrip('.=') if sign == '~' else name}" for name in found]
    head = re.match(r"(.*[,\[])?", value)[0]  # type: ignore[index]  # the other values of a sweep or a list
    values = completion.values(key)
    if key in _RUN_KEYS:
        values = [*values, *_runs(value)]
    elif value.startswith((".", "/")):  # as Hydra does
        values = _paths(value)
    return [f"{sign}{key}={head}{value}" for value in values]


def _runs(prefix: str) -> list[str]:
    """Runs and sweeps below the folder that `prefix` begins, and folders that are not looked into."""
    outputs = find_project().outputs
    folder, start = os.path.split(prefix or (f"{outputs}/" if outputs.is_dir() else ""))
    found: list[str] = []
    waiting = _folders(folder, start)
    while waiting:
        path = waiting.pop(0)
        if any(os.path.isfile(os.path.join(path, name)) for name in ("run.json", "sweep.json")):
            found.append(path)
        elif len(found) + len(waiting) + len(below := _folders(path)) <= MOST_RUNS:
            waiting += below
        elif below:
            found.append(f"{path}/")
    return found


def _folders(folder: str, start: str = "") -> list[str]:
    return [path.rstrip("/") for path in _paths(os.path.join(folder, start)) if path.endswith("/")]


def _paths(prefix: str) -> list[str]:
    """The files and, with a slash, the folders whose path begins with `prefix`, but for hidden ones."""
    folder, start = os.path.split(prefix)
    try:
        with os.scandir(folder or ".") as entries:
            shown = [entry for entry in entries if entry.name.startswith(start) and (start or entry.name[0] != ".")]
            return sorted(os.path.join(folder, entry.name) + "/" * entry.is_dir() for entry in shown)
    except OSError:  # there is none, or it is another user's
        return []
