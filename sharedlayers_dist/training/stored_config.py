"""What a run's config.json says of it, and what a resumed run must have in common with that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

from sharedlayers_dist.config import (
    DEFAULT_LEARNING_RATE,
    TRAIN_GROUPS,
    TrainConfig,
    resolve_monitor,
)
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets

_DECIDED_BY = "decided_by"
"""The stored names of the options that decide what is trained and are not at their defaults: a
version that does not know one of the others can resume the run all the same."""
_DECISIVE = tuple(
    field.name
    for group in TRAIN_GROUPS
    if group.decides_training
    for field in fields(group)
    if field.name not in group.never_decides
)
_SOURCE = "source"
"""The fact that holds the hashes of the sources of a model of one's own."""
_FREE_FACTS = frozenset({"versions"})
_PLACES_OF_FINGERPRINT = {"fingerprint": {"pairs", "mix"}, "validation_fingerprint": {"validation"}}
"""Where data lie, which may change as long as they are the same data."""


def storable(config: TrainConfig) -> dict[str, Any]:
    """The options by name, as JSON holds them, without the secrets that a URI may carry."""
    return {name: _store(value) for name, value in asdict(config).items()}


def stored_config(config: TrainConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of config.json.

    Args:
        config: The run's options, stored under their own names.
        facts: What the options were applied to (dataset fingerprints, the alphabet, versions).
    """
    options = storable(config)
    decided_by = [name for name in _DECISIVE if options[name] != _DEFAULTS.get(name)]
    return options | dict(facts) | {_DECIDED_BY: decided_by}


def require_same_training(
    stored: Mapping[str, Any], config: TrainConfig, facts: Mapping[str, Any]
) -> None:
    """Makes sure that a run goes on with what it was started with.

    An option that is newer than the run had its default there. Facts that are newer than the run
    are not compared.

    Args:
        stored: The run's config.json.
        config: The options of the resumed run.
        facts: What these are applied to.

    Raises:
        UserError: names each difference, and each option of the run that this version lacks.
    """
    _require_known(stored, facts)
    was, wanted = _comparable(_DEFAULTS | dict(stored)), _comparable(storable(config) | dict(facts))
    free, names = set(_FREE_FACTS), [*_DECISIVE, *(name for name in facts if name in stored)]
    _require_same_sources(stored.get(_SOURCE), facts.get(_SOURCE))
    if _SOURCE in stored and _SOURCE in facts:
        free.add("model")  # The file may lie elsewhere.
    for fingerprint, places in _PLACES_OF_FINGERPRINT.items():
        if was.get(fingerprint) == wanted.get(fingerprint):
            free |= places
    if config.schedule != "constant":
        names.append("epochs")  # The learning rate falls to 0 at their end.
    differing = [
        f"{name}: {_short(was.get(name))} in the run, {_short(wanted[name])} asked for"
        for name in names
        if name not in free and was.get(name) != wanted[name]
    ]
    if differing:
        raise UserError(
            "A run is resumed with the configuration that it was started with. Received: "
            f"{'; '.join(differing)}. Give the same options, or start another run."
        )


def _require_same_sources(
    stored: Mapping[str, Any] | None, given: Mapping[str, Any] | None
) -> None:
    """Raises UserError if both models are made by functions of one's own, with other sources."""
    if stored is None or given is None or stored == given:
        return
    was, wanted = ({"": of["entry"]} | of["modules"] for of in (stored, given))
    differing = [
        f"{name or 'function'}: {_digest(before)} in the run, {_digest(now)} now"
        for name in sorted(was.keys() | wanted.keys())
        if (before := was.get(name)) != (now := wanted.get(name))
    ]
    raise UserError(
        "A run goes on with the sources that its model was made with. Received: "
        f"{'; '.join(differing)}. The run keeps its own in the folder {_SOURCE}: name those with "
        "--model, or start another run from the weights with --initialize-from."
    )


def _digest(value: str | None) -> str:
    return "none" if value is None else value if ":" in value else value[:12]


def _require_known(stored: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raises UserError for an option of a later version that decided what was trained."""
    options = {field.name for field in fields(TrainConfig)}
    unknown = set(stored) - options - set(facts) - {_DECIDED_BY}
    if decided_by := stored.get(_DECIDED_BY):
        unknown &= set(decided_by)
    elif _DECIDED_BY in stored:
        unknown = set()
    if unknown:
        received = ", ".join(f"{name}={_short(stored[name])}" for name in sorted(unknown))
        made_by = stored.get("versions", {}).get("sharedlayers_dist", "another version")
        raise UserError(
            f"A run is resumed by a version that has its options. Received: {received} in a run "
            f"of sharedlayers_dist {made_by}. Resume it with that version, or start another run "
            "from its weights with --initialize-from."
        )


def _comparable(options: dict[str, Any]) -> dict[str, Any]:
    """The options with what those come to that are left to the project."""
    options = dict(options)
    if options["learning_rate"] is None:
        options["learning_rate"] = DEFAULT_LEARNING_RATE
    if options["head"] == "auto" and _SOURCE not in options:
        options["head"] = "concatenation"  # As a run says that was made before there was `auto`.
    with suppress(UserError):  # A metric that the model brings; its direction is its own.
        options["monitor"], options["monitor_mode"] = resolve_monitor(
            options["monitor"], options["monitor_mode"], has_validation=bool(options["validation"])
        )
    return options


def _store(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _store(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_store(part) for part in value]
    return hide_secrets(value) if isinstance(value, str) else value


_DEFAULTS = {
    field.name: _store(field.default) for field in fields(TrainConfig) if field.name in _DECISIVE
} | {"pairs": None}
"""As JSON holds them; an option without one is missing in no run."""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
