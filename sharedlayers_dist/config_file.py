"""Options from a file: TOML, or the config.json of a run; the command line wins over it."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection, Token

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.options import check
from sharedlayers_dist.storage.uri import hide_secrets, is_uri, read_file

_FACTS_OF_RUN = frozenset({"fingerprint", "versions"})
"""What config.json says of every run, and no option is called."""
_OPTIONS_OF_RUN = frozenset(field.name for field in fields(TrainConfig))


class OptionsFileError(UserError):
    """What is wrong with a file of options; where there are several ranks, perhaps on one alone."""


class _Option(NamedTuple):
    """An option of a command."""

    table: str
    """The table of a file that it may stand in; empty where the command has no groups."""
    argument: Argument

    @property
    def hint(self) -> Any:
        """Its type, without bounds."""
        annotation = self.argument.field_info.annotation
        return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation

    @property
    def is_object(self) -> bool:
        """Whether it is an object of JSON."""
        return get_origin(self.hint) is Mapping

    def is_of(self, value: Any) -> bool:
        """Whether the value is an instance of the type, or of one of several."""
        kinds = get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)
        classes = [get_origin(kind) or kind for kind in kinds]
        return any(isinstance(value, cls) for cls in classes if isinstance(cls, type))


@dataclass(frozen=True)
class OptionsFile:
    """The options of one command in a file, by name.

    Names may have `-` or `_` in them. They stand at the top, or in tables called as the groups of
    options are in `sharedlayers_dist.config`: `[order]` and then `batch_size = 64`. An option that
    is an object of JSON is a table itself.

    Args:
        uri: The path or URI, for people.
        content: What the file holds.
    """

    uri: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, uri: str) -> OptionsFile:
        """Reads a file: JSON where its name ends with .json, else TOML.

        Raises:
            OptionsFileError: for one that cannot be read, or is neither.
        """
        try:
            text = read_file(uri)
        except (OSError, UserError) as error:
            raise OptionsFileError(
                "A file of options must be one that can be read. Received: "
                f"config={hide_secrets(uri)!r} ({one_line(error)})."
            ) from error
        is_json = uri.partition("?")[0].endswith(".json")
        try:
            content = json.loads(text) if is_json else tomllib.loads(text.decode())
        except ValueError as error:
            raise OptionsFileError(
                "A file of options must be TOML, or JSON if its name ends with .json. Received: "
                f"config={hide_secrets(uri)!r} ({one_line(error)})."
            ) from error
        if not isinstance(content, dict):
            raise OptionsFileError(
                "A file of options must hold an object of JSON. Received: "
                f"config={hide_secrets(uri)!r}, which holds {type(content).__name__}."
            )
        return cls(hide_secrets(uri), content)

    def __call__(self, app: App, commands: Sequence[str], arguments: ArgumentCollection) -> None:
        """Gives the command what its command line has left out; cyclopts calls this.

        Raises:
            OptionsFileError: for a name that is no option of the command, and a value that is none
                of the option.
        """
        options = _options_of(arguments)
        seen: set[str] = set()
        for table, key, value in self._entries(options):
            name = key.replace("-", "_")
            option = options.get(name)
            if option is None or (table and table != option.table):
                raise self._error_of_unknown(table, key, options, commands)
            if name in seen:
                raise OptionsFileError(
                    f"A file of options holds each one once. Received: `{key}` twice, in "
                    f"{self.uri}."
                )
            seen.add(name)
            if not option.argument.has_tokens:
                self._give(name, value, option)

    def _entries(self, options: Mapping[str, _Option]) -> Iterator[tuple[str, str, Any]]:
        """Table, name and value of each entry; for a run's file, without what is no option."""
        tables = {option.table for option in options.values()} - {""}
        of_run = self.content.keys() >= _FACTS_OF_RUN
        decided_by = self.content.get("decided_by", ()) if of_run else ()
        for key, value in self.content.items():
            option = options.get(key.replace("-", "_"))
            if of_run and key not in _OPTIONS_OF_RUN and key not in decided_by:
                continue
            if isinstance(value, Mapping) and key in tables and not (option and option.is_object):
                yield from ((key, name, part) for name, part in value.items())
            else:
                yield "", key, value

    def _give(self, name: str, value: Any, option: _Option) -> None:
        value = tuple(value) if isinstance(value, list) and not option.is_object else value
        try:
            check(name, value, option.argument.field_info.annotation)
        except UserError as error:
            text = str(error).removesuffix(".").replace("must be a tuple", "must be a list")
            raise OptionsFileError(f"{text}, in {self.uri}.") from error
        if _has_hidden_secret(value):
            raise OptionsFileError(
                f"The file of a run is stored without secrets. Received: {name}={value!r}, in "
                f"{self.uri}. Give --{name.replace('_', '-')} with the command."
            )
        if value is None:
            return
        # As text where cyclopts must make another value of it: a float of 1, one of several words.
        given = {"implicit_value": value} if option.is_of(value) else {"value": str(value)}
        option.argument.append(Token(keyword=name, source=self.uri, **given))

    def _error_of_unknown(
        self, table: str, key: str, options: Mapping[str, _Option], commands: Sequence[str]
    ) -> OptionsFileError:
        command = " ".join(["sharedlayers", *commands])
        where = f"`{key}` in the table [{table}]" if table else f"`{key}`"
        nearest = difflib.get_close_matches(key.replace("-", "_"), options, n=1, cutoff=0)
        remedy = "The command has no options."
        if nearest:
            home = options[nearest[0]].table
            remedy = f"The nearest is `{nearest[0]}`{f' in the table [{home}]' if table else ''}."
        return OptionsFileError(
            f"A file of options holds those of `{command}`. Received: {where}, in {self.uri}. "
            f"{remedy}"
        )


def _options_of(arguments: ArgumentCollection) -> dict[str, _Option]:
    """The options of a command by the names that they have in Python."""
    roots = [argument for argument in arguments if not argument.keys]
    groups = [root for root in roots if root.children]
    options = {root.field_info.name: _Option("", root) for root in roots if not root.children}
    for group in groups:
        table = group.field_info.name if len(groups) > 1 else ""
        options |= {child.field_info.name: _Option(table, child) for child in group.children}
    return options


def _has_hidden_secret(value: Any) -> bool:
    """Whether a value is, or holds, a URI as `hide_secrets` leaves it."""
    if isinstance(value, str):
        return is_uri(value) and "***" in value
    if isinstance(value, Mapping):
        return any(map(_has_hidden_secret, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_hidden_secret, value))
