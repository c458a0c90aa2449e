"""The parser of every command: a mistake is answered in one line, with the nearest word."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from headrace.errors import did_you_mean, shorten

# What people write behind a flag that takes no value.
SWITCHED = ("true", "false", "yes", "no", "on", "off", "1", "0")
# Commands of MLflow, MLServer, BentoML and others, and what does the same here.
INSTEAD = {
    "init": "`headrace check FOLDER` on a folder with a model-settings.json, which you write",
    "run": "`headrace serve`",
    "predict": "`headrace infer` against a server that runs",
    "score": "`headrace infer` against a server that runs",
    "generate-dockerfile": "`headrace dockerfile`",
    "build-docker": "`headrace build`",
    "prepare-env": "`headrace env build`",
    "version": "`headrace --version`",
    "help": "`headrace --help`",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose subparsers refuse what they do not know themselves.

    argparse leaves that to the outermost one, which does not know the flags of a command.
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong. The usage, which may fill a screen, is left to --help."""
        end = "" if message.endswith("?") else ";"
        self.exit(2, f"{self.prog}: {message}{end} `{self.prog} --help` shows what it takes\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but nothing is left over."""
        for word in sys.argv[1:] if args is None else args:
            self._refuse_single_dash(word)
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            self._refuse(rest)
        return options, rest

    def _refuse_single_dash(self, word: str) -> None:
        """Refuse `-port`, which would otherwise be `-p` with the value `ort`."""
        flag = word.partition("=")[0]
        if len(flag) > 2 and flag[1] != "-" and f"-{flag}" in self._option_string_actions:
            self.error(f"there is no flag '{shorten(flag)}'; did you mean '-{flag}'?")

    def _refuse(self, rest: Sequence[str]) -> NoReturn:
        word = rest[0].partition("=")[0]
        if not word.startswith("-"):
            is_value = word.lower() in SWITCHED
            hint = "; a switch takes no value, and --no-... turns it off" if is_value else ""
            self.error(f"unexpected argument '{shorten(word)}'{hint}")
        hint = did_you_mean(word, self._option_string_actions)
        self.error(f"there is no flag '{shorten(word)}'{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(each) for each in action.choices]
        hint = did_you_mean(value, choices)
        if action.option_strings:
            name = "/".join(action.option_strings)
            self.error(
                f"{name}: expected one of {', '.join(choices)}, got '{shorten(value)}'{hint}"
            )
        what = "command" if action.dest == "command" else "word"
        instead = _instead(str(value)) if what == "command" else ""
        if self.prog == "headrace models" and value == "serve":
            instead = "`headrace serve`"
        if instead:
            self.error(f"there is no {what} '{shorten(value)}'; use {instead}")
        hint = hint or f"; expected one of {', '.join(choices)}"
        self.error(f"there is no {what} '{shorten(value)}'{hint}")


def _instead(word: str) -> str:
    """What someone wants who gives a command of another program, or forgets the command."""
    if os.path.exists(word) or ":" in word:
        return f"`headrace serve {shorten(word)}`"
    return INSTEAD.get(word, "")


class HostOrHelp(argparse.Action):
    """`-h ADDRESS` is --host, as in `mlflow models serve`; `-h` alone shows the help."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values is None:
            parser.print_help()
            parser.exit()
        setattr(namespace, self.dest, values)
