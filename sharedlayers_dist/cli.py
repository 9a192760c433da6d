"""The `sharedlayers` command: one thin function per capability.

Exit codes: 0; 2 with one line on standard error for what a user got wrong; 75 for a run that was
asked to stop and has saved itself; 1 for the rest.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter

from sharedlayers_dist.completion import add_commands
from sharedlayers_dist.config import (
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    InspectConfig,
    LogConfig,
    ModelConfig,
    OptimizationConfig,
    OrderConfig,
    PairsConfig,
    PredictConfig,
    RayConfig,
    RunConfig,
    TrainConfig,
)
from sharedlayers_dist.config_file import OptionsFile, OptionsFileError
from sharedlayers_dist.errors import (
    CollectiveRuntimeError,
    SetupError,
    UserError,
    show_warnings_in_one_line,
)
from sharedlayers_dist.options import section
from sharedlayers_dist.quiet import import_tensorflow_quietly
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.training import TrainResult, require_launcher
from sharedlayers_dist.training.preemption import EXIT_CODE, RunInterruptedError
from sharedlayers_dist.world import Launch

_SECONDS_TO_SPEAK = 5.0
"""How long ranks with nothing to say wait before they end: another may still be starting."""

app = App(
    name="sharedlayers",
    help="Train Keras 3 models with shared layers on pair data.",
    default_parameter=Parameter(negative=()),
    version_flags=["--version"],
)

_Options = Parameter(name="*")


@app.meta.default
def _launch(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[
        str | None, Parameter(metavar="FILE", group=Group.create_ordered("Options from a file"))
    ] = None,
) -> None:
    """Runs a command with the options of its command line, and those of a file.

    Args:
        arguments: The command and its options.
        config: File of the command's options by name (path or URI): TOML, or the config.json of a
            run. What stands on the command line wins over it.
    """
    app.config = () if config is None else (OptionsFile.read(config),)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    finally:
        app.config = ()


@app.command
def models() -> None:
    """Lists the models that can be built."""
    from sharedlayers_dist import models as zoo

    for name in zoo.names():
        info = zoo.info(name)
        print(f"{name:27} {info.description}{' Start here.' if info.start_here else ''}")


@app.command
def describe(model: str) -> None:
    """Prints a model's layers and what is shared, by which inputs.

    Args:
        model: A name that `sharedlayers models` lists.
    """
    import_tensorflow_quietly()
    from sharedlayers_dist import models as zoo

    built = zoo.build(model)
    built.summary(print_fn=print)
    for shared in zoo.shared_layers(built):
        uses = ", ".join(f"({', '.join(inputs)})" for inputs in shared.calls)
        print(f"{shared.layer.name} is shared: {uses}")


@app.command
def pairs(*, config: Annotated[PairsConfig, _Options]) -> None:
    """Makes a pair dataset from labelled items: sets train, validation and test."""
    _require_one_process("pairs")
    from sharedlayers_dist.data.making.make_pairs import make_pairs

    print(make_pairs(config, progress=sys.stderr.isatty()))


@app.command
def inspect(config: Annotated[InspectConfig, _Options]) -> None:
    """Says what is in a pair dataset; exit code 2 when something is wrong with it."""
    _require_one_process("inspect")
    from sharedlayers_dist.data.inspection.inspect import inspect_dataset

    report = inspect_dataset(config, progress=sys.stderr.isatty())
    print(report.to_json() if config.json else report)
    if report.problems:
        raise UserError("; ".join(report.problems))


@app.command
def train(
    *,
    run: Annotated[RunConfig, _Options, section("The run")],
    model: Annotated[ModelConfig | None, _Options, section("The model")] = None,
    data: Annotated[DataConfig, _Options, section("The pairs")],
    order: Annotated[OrderConfig | None, _Options, section("Their order")] = None,
    optimization: Annotated[OptimizationConfig | None, _Options, section("Optimization")] = None,
    checkpoints: Annotated[CheckpointConfig | None, _Options, section("Checkpoints")] = None,
    log: Annotated[LogConfig | None, _Options, section("Logs")] = None,
    ray: Annotated[RayConfig | None, _Options, section("On Ray (--launcher ray)")] = None,
) -> None:
    """Trains a pair model; under `horovodrun -np N`, as one of N ranks, or on a Ray cluster."""
    groups = (run, model, data, order, optimization, checkpoints, log, ray)
    config = TrainConfig.from_groups(*(group for group in groups if group is not None))
    result = _train_on_ray(config) if config.launcher == "ray" else _train_here(config)
    if Launch.detect().is_rank_zero:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
        print(f"{result.steps} steps in {result.epochs} epochs: {figures}")
        print(f"model: {hide_secrets(result.model)}")


def _train_on_ray(config: TrainConfig) -> TrainResult:
    from sharedlayers_dist.ray import train as run

    return run(config)


def _train_here(config: TrainConfig) -> TrainResult:
    require_launcher(config)  # Before TensorFlow is loaded, which takes each rank another time.
    import_tensorflow_quietly()
    from sharedlayers_dist.training import train as run

    return run(config)


@app.command
def evaluate(*, config: Annotated[EvaluateConfig, _Options]) -> None:
    """Measures a run on pairs; writes metrics.json and report.html."""
    _require_one_process("evaluate")
    import_tensorflow_quietly()
    from sharedlayers_dist import evaluate as evaluation

    figures = evaluation.evaluate(
        config.run,
        config.pairs,
        config.output,
        config.batch_size,
        on_bad_row=config.on_bad_row,
        trust_code=config.trust_code,
        model=config.model,
    )
    for name, value in asdict(figures).items():
        print(f"{name:22} {'not defined' if value is None else f'{value:.6g}'}")
    print(f"report: {os.path.join(config.output, 'report.html')}")


@app.command
def predict(*, config: Annotated[PredictConfig, _Options]) -> None:
    """Writes a run's scores of pairs to a Parquet file, in the dataset's own order."""
    _require_one_process("predict")
    import_tensorflow_quietly()
    from sharedlayers_dist import evaluate as evaluation

    scored = evaluation.predict(
        config.run,
        config.pairs,
        config.output,
        config.batch_size,
        on_bad_row=config.on_bad_row,
        trust_code=config.trust_code,
        model=config.model,
    )
    if scored.num_bad_rows:
        print(f"{scored.num_bad_rows} bad rows have no score: {'; '.join(scored.problems)}")
    print(f"{len(scored.scores) - scored.num_bad_rows} scores: {config.output}")


@app.command
def doctor() -> None:
    """Says what this environment can do; under `horovodrun -np N`, whether the ranks can talk."""
    import_tensorflow_quietly()
    from sharedlayers_dist.doctor import examine

    lines, good = examine()
    if Launch.detect().is_rank_zero:
        print("\n".join(lines))
    if not good:
        sys.exit(1)


add_commands(app)


def _require_one_process(command: str) -> None:
    """Refuses a command that each of several ranks would do on its own, to the same files."""
    Launch.detect().require_one_process(
        f"sharedlayers {command}", "Start it without a launcher, once."
    )


def _say(error: BaseException) -> None:
    """One line on standard error, which names the rank where there are several.

    Libraries' errors may hold a URI with its secrets.
    """
    launch = Launch.detect()
    place = f" (rank {launch.rank})" if not launch.is_alone else ""
    text = hide_secrets(" ".join(str(error).split()))
    print(f"sharedlayers{place}: {text}", file=sys.stderr, flush=True)


def _tell(error: BaseException) -> int:
    """Tells of an error that is foreseen, on the rank that speaks for it; returns the exit code.

    Of several ranks the one that failed speaks, or one of those that miss another; and rank zero
    for what all of them raise. What is wrong with a file of options is likely to be wrong on all
    hosts: rank zero says it at once, and the others when they are not ended meanwhile. Where a
    fault of the program or of a library stands behind the error, the rank that has met it shows its
    traceback too.
    """
    is_everyones = isinstance(error, CycloptsError) or hasattr(error, "raised_on_all_ranks")
    rank = Launch.detect().rank
    if isinstance(error, CollectiveRuntimeError) and not _is_foreseen(error.__cause__):
        traceback.print_exception(error.__cause__)
    if isinstance(error, OptionsFileError | SetupError) and rank:
        # Rank zero may meet the same, and has said so by then; the launcher ends the others.
        time.sleep(_SECONDS_TO_SPEAK)
        _say(error)
    elif rank == getattr(error, "reporting_rank", 0 if is_everyones else rank):
        _say(error)
    elif "tensorflow" not in sys.modules:
        # The ranks have not met yet, and horovodrun ends all of them when it sees one end.
        time.sleep(_SECONDS_TO_SPEAK)
    if isinstance(error, RunInterruptedError):
        return EXIT_CODE
    is_users = isinstance(error, CycloptsError | UserError) or getattr(error, "is_users", False)
    return 2 if is_users else 1


def _is_foreseen(error: BaseException | None) -> bool:
    """Whether an error's own text says all of it.

    So it is for a mistake of a user, an environment that lacks something, storage that cannot be
    reached, a full disk, and the state of a cluster; not for a RuntimeError that one rank has met
    by itself.
    """
    if error is None or isinstance(error, UserError | SetupError | OSError | CycloptsError):
        return True
    return hasattr(error, "raised_on_all_ranks")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    show_warnings_in_one_line("sharedlayers")
    try:
        app.meta(arguments, exit_on_error=False, print_error=False)
    except Exception as error:
        if not _is_foreseen(error):
            raise
        sys.exit(_tell(error))
