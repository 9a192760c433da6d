"""Every option of every command: frozen dataclasses that check themselves.

The command line is derived from these classes; the string under a field is the option's help.
"""

# Long because it is a table: every option of every command, with its bound and its help.

# Annotations are values here, not strings (no `from __future__ import annotations`): the command
# lines of datasets/ inherit them in modules that know none of these names.
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal, TypeVar

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.options import (
    EMPTY_OBJECT,
    FILLED,
    POSITIVE,
    SHARE,
    JsonObject,
    Options,
    at_least,
    require,
    section,
)

_G = TypeVar("_G", bound="TrainGroup")
DEFAULT_LEARNING_RATE = 0.001
Mode = Literal["min", "max"]
"""Whether a small or a large value of a metric is good."""
MODE_OF_METRIC: Mapping[str, Mode] = {"loss": "min", "accuracy": "max", "roc_auc": "max"}
"""The metrics of a run whose model brings no others; those of the validation pairs have the same
names after `val_`."""


@dataclass(frozen=True, kw_only=True)
class TrainGroup(Options):
    """A group of the options of a training run."""

    decides_training: ClassVar[bool] = True
    """Whether other values train another model: a run is resumed with the same ones then."""
    never_decides: ClassVar[frozenset[str]] = frozenset()
    """Options of such a group that all the same do not."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainGroup):
    """Where a run goes, how long it is, what starts it, and what is called meanwhile."""

    decides_training: ClassVar[bool] = False

    output: Annotated[str, FILLED]
    """The run folder to make; a folder that holds another run is refused."""
    epochs: Annotated[int, at_least(1)] = 10
    """Passes over the training pairs."""
    resume: bool = False
    """Go on from the newest checkpoint in the run folder."""
    initialize_from: str = ""
    """Run folder whose newest weights a new run starts from; nothing else is taken from it."""
    callbacks: str = ""
    """A function of one's own that makes further Keras callbacks on every rank, and is called with
    the run's TrainConfig: path/to/file.py:function or package.module:function."""
    launcher: Literal["auto", "local", "ray"] = "auto"
    """`auto` is Horovod when horovodrun started this process, else one process; `ray` starts
    num_workers ranks on a Ray cluster."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(TrainGroup):
    """The model to train."""

    model: Annotated[str, FILLED] = "tweet_pair"
    """A name that `sharedlayers models` lists, or a function of one's own that returns an encoder
    or a pair model: path/to/file.py:function or package.module:function."""
    model_options: JsonObject = EMPTY_OBJECT
    """What the model's function is called with, a JSON object of its keywords."""
    head: Literal[
        "auto", "concatenation", "absolute_difference", "cosine", "scaled_cosine", "comparison"
    ] = "auto"
    """How the two encodings are compared; `auto` is concatenation, the notebook's, for the
    notebook's models, and scaled_cosine for all others."""
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    """What the layers compute in; their weights and the scores stay in 32 bits. `auto` is Keras's
    own setting."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(TrainGroup):
    """The pairs to train and to validate on."""

    never_decides: ClassVar[frozenset[str]] = frozenset({"data_cache", "data_cache_gigabytes"})

    pairs: Annotated[str, FILLED]
    """Folder or filesystem URI of the training pairs (Parquet with columns a, b, label)."""
    validation: str = ""
    """Folder or URI of validation pairs, evaluated after each epoch; empty for none."""
    mix: tuple[str, ...] = ()
    """Further pair datasets to mix in, each as WEIGHT*URI; `pairs` has the weight 1."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used: stop, or leave it out and count it."""
    truncate: Literal["begin", "end"] = "begin"
    """The end that texts and lists of tokens lose which are longer than the model takes."""
    pad: Literal["begin", "end"] = "begin"
    """The end at which shorter ones are padded with zeros."""
    alphabet_size: Annotated[int, at_least(1)] = 256
    """The most characters that have an id, for models that take ids of texts; for those that take
    matrices it is the number of their columns."""
    groups_per_batch: Annotated[int, at_least(0)] = 0
    """Read items instead of pairs: a step takes some items of this many groups, and the loss
    compares all of them (batch_size is not used then). `pairs` names items with their groups, or
    pairs whose items these are. 0 reads pairs."""
    items_per_group: Annotated[int, at_least(2)] = 4
    """The most items of each group in a step of items."""
    hard_negatives: Annotated[int, at_least(0)] = 0
    """How many items of other groups are looked for, before each epoch but the first, that are the
    nearest to each item by the model as it is: they are put into its batch. Time grows with the
    square of the items; 0 for none."""
    hard_negatives_max_cosine: Annotated[float, SHARE] = 0.98
    """The largest cosine of a hard negative to its item; nearer ones are likely to be the same in
    other words."""
    hard_negatives_margin: Annotated[float | None, at_least(0)] = None
    """How much smaller that cosine must be than the cosine to the nearest item of the same group;
    by default it may be larger."""
    item_column: str = "text"
    """Column of the items; of a folder of pairs these are a and b."""
    group_column: str = "group"
    """Column that says whose item it is; of a folder of pairs these are group_a and group_b."""
    data_cache: str = ""
    """Folder on a disk of each host for copies of the row groups of pairs on object stores, which
    its ranks share: later epochs read these. Not used for pairs on a disk; empty for none."""
    data_cache_gigabytes: Annotated[float, POSITIVE] = 20.0
    """The most that this folder holds; what was used the longest ago goes first."""

    def _check_rules(self) -> None:
        require(
            not (self.mix and self.groups_per_batch),
            "Pairs made on the fly come from one set of items.",
            mix=self.mix,
            groups_per_batch=self.groups_per_batch,
        )
        require(
            not self.hard_negatives or self.groups_per_batch > 0,
            "Hard negatives are mined among groups of items. Set groups_per_batch.",
            hard_negatives=self.hard_negatives,
            groups_per_batch=self.groups_per_batch,
        )
        require(
            self.hard_negatives_margin is None or self.hard_negatives > 0,
            "A margin is kept to by hard negatives. Set hard_negatives.",
            hard_negatives_margin=self.hard_negatives_margin,
            hard_negatives=self.hard_negatives,
        )
        require(
            "://" not in self.data_cache,
            "`data_cache` must name a folder on a disk of each host.",
            data_cache=self.data_cache,
        )


@dataclass(frozen=True, kw_only=True)
class OrderConfig(TrainGroup):
    """Which pairs make which step."""

    batch_size: Annotated[int, at_least(1)] = 256
    """Pairs per step over all ranks; each rank takes its share."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the initial weights and of the order of the pairs."""
    num_streams: Annotated[int, at_least(1)] = 24
    """Parts that each global batch is read in; the most ranks that can share a run."""
    window: Annotated[int, at_least(0)] = 0
    """Row groups of a stream whose rows are shuffled together; 0 leaves it to the plan."""


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig(TrainGroup):
    """How the weights are changed, and when that has an end."""

    optimizer: str = ""
    """One of Keras's optimizers by name (adamw, sgd, ...); by default rmsprop, the notebook's. A
    model that its function has compiled brings its own, and what else is told here."""
    optimizer_options: JsonObject = EMPTY_OBJECT
    """Further arguments of the optimizer, a JSON object."""
    loss: str = ""
    """One of Keras's losses or of this package's by name; by default binary_crossentropy."""
    loss_options: JsonObject = EMPTY_OBJECT
    """Arguments of the loss, a JSON object."""
    learning_rate: Annotated[float | None, POSITIVE] = None
    """Step size of the optimizer at the global batch size, the highest one of a schedule; it is not
    scaled by the ranks. By default 0.001."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes after the warm-up: it stays, or falls to 0 at the last step."""
    warmup_steps: Annotated[int, at_least(0)] = 0
    """Steps of the global batch in which the learning rate rises from 0."""
    clip_norm: Annotated[float, at_least(0)] = 0.0
    """Largest norm of all gradients together, over all ranks; 0 for any."""
    weight_decay: Annotated[float, at_least(0)] = 0.0
    """Decay of the weights in each step, as Keras's optimizers have it; 0 for none."""
    gradient_accumulation: Annotated[int, at_least(1)] = 1
    """Steps whose gradients make one update together, as their mean over all pairs."""
    mini_batch_size: Annotated[int, at_least(0)] = 0
    """Pairs or items of a rank's batch that the model works on at a time, while the loss is that of
    the whole batch; bounds memory, for one more forward pass. 0 for all at once."""
    fast_paths: bool = True
    """Whether to encode each different item of a batch once, and recurrent layers over one-hot rows
    by each item's own steps; the same result to rounding, for less."""
    monitor: str = ""
    """Metric that says which model is best; by default val_loss, or loss without validation."""
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Whether a small or a large value of `monitor` is good; `auto` knows it of Keras's metrics."""
    early_stopping: Annotated[int, at_least(0)] = 0
    """Epochs without a better `monitor` after which training stops; 0 for never."""
    plateau: Annotated[int, at_least(0)] = 0
    """Epochs without a better `monitor` after which the learning rate is cut to a fifth; 0 for
    never."""
    retrieval_items: Annotated[int, at_least(0)] = 0
    """The most items of the validation pairs, of whole groups, that are encoded and ranked after
    each epoch: val_recall_at_1, _5 and _10, val_mrr, val_map_at_r. The pairs need group_a and
    group_b. Time grows with the square; 0 for none."""

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or DEFAULT_LEARNING_RATE

    @property
    def has_schedule(self) -> bool:
        """Whether the learning rate depends on the step."""
        return self.schedule != "constant" or self.warmup_steps > 0

    def _check_rules(self) -> None:
        require(
            not (self.plateau and self.has_schedule),
            "Either a schedule or a plateau sets the learning rate.",
            plateau=self.plateau,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(TrainGroup):
    """When checkpoints are made, and which of them stay."""

    decides_training: ClassVar[bool] = False

    checkpoint_every: Annotated[int, at_least(0)] = 0
    """Steps between checkpoints within an epoch; 0 for the ends of epochs alone."""
    checkpoint_minutes: Annotated[float, at_least(0)] = 0.0
    """Minutes between checkpoints within an epoch, by rank zero's clock; 0 for none."""
    keep_checkpoints: Annotated[int, at_least(1)] = 3
    """How many of the newest checkpoints stay."""
    keep_best: Annotated[int, at_least(0)] = 1
    """How many of the best checkpoints stay, by `monitor`."""
    keep_every: Annotated[int, at_least(0)] = 0
    """Checkpoints at multiples of this many steps stay for good; 0 for none."""


@dataclass(frozen=True, kw_only=True)
class LogConfig(TrainGroup):
    """What is written down of the training."""

    decides_training: ClassVar[bool] = False

    log_every: Annotated[int, at_least(1)] = 20
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Write the figures as events for TensorBoard too, to the folder `tensorboard` of the run."""


@dataclass(frozen=True, kw_only=True)
class RayConfig(TrainGroup):
    """What a run on Ray takes of its cluster; used with `launcher` ray alone."""

    decides_training: ClassVar[bool] = False

    num_workers: int | str = 1
    """Ranks to train on, N, or MIN:MAX for a group that shrinks and grows with the cluster."""
    use_gpu: bool = False
    """Give each worker a GPU of its own."""
    cpus_per_worker: Annotated[float, at_least(0)] = 1.0
    """CPUs that each worker takes."""
    num_shard_actors: Annotated[int, at_least(-1)] = -1
    """Actors that read and encode the pairs for the workers; -1 for one for each worker, 0 to read
    in the workers themselves."""
    cpus_per_shard_actor: Annotated[float, at_least(0)] = 0.0
    """CPUs that each of these actors reserves; 0 lets them share those of the nodes they are on."""
    address: str = ""
    """The cluster to join (`auto` or host:port), or `local` for one of this machine alone; empty
    for RAY_ADDRESS, else for what `ray start` has started here, else for `local`."""
    max_failures: Annotated[int, at_least(0)] = 3
    """How often the workers are started again, from the last checkpoint, after one failed."""
    placement_seconds: Annotated[float, at_least(0)] = 120.0
    """How long to wait for the CPUs and GPUs asked for before saying what is missing."""

    @property
    def worker_range(self) -> tuple[int, int]:
        """The fewest and the most workers of a run on Ray."""
        fewest, _, most = str(self.num_workers).partition(":")
        return int(fewest), int(most or fewest)

    def _check_rules(self) -> None:
        require(
            re.fullmatch(r"\d+(:\d+)?", str(self.num_workers)) is not None
            and 1 <= self.worker_range[0] <= self.worker_range[1],
            "`num_workers` must be N or MIN:MAX, with at least 1 worker.",
            num_workers=self.num_workers,
        )


TRAIN_GROUPS: tuple[type[TrainGroup], ...] = (
    RunConfig,
    ModelConfig,
    DataConfig,
    OrderConfig,
    OptimizationConfig,
    CheckpointConfig,
    LogConfig,
    RayConfig,
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    RunConfig,
    ModelConfig,
    DataConfig,
    OrderConfig,
    OptimizationConfig,
    CheckpointConfig,
    LogConfig,
    RayConfig,
):
    """One training run: the same configuration gives the same result under every launcher.

    All options are given flat, by name; `group` takes out those of one group.

    Example:
        >>> config = TrainConfig(pairs="pairs/train", output="runs/first", epochs=3, seed=7)
        >>> config.group(OrderConfig)
        OrderConfig(batch_size=256, seed=7, num_streams=24, window=0)
    """

    @classmethod
    def from_groups(cls, *groups: TrainGroup) -> "TrainConfig":
        """Puts a value of each group with required options, and any others, together."""
        return cls(**{name: value for group in groups for name, value in vars(group).items()})

    def group(self, kind: type[_G]) -> _G:
        """The options of one group, as a value of its class."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})

    @property
    def monitored(self) -> str:
        """The metric that says which model is best."""
        return self.monitor or ("val_loss" if self.validation else "loss")

    @property
    def monitored_mode(self) -> Mode:
        """Whether a small or a large value of it is good."""
        return resolve_monitor(
            self.monitor, self.monitor_mode, has_validation=bool(self.validation)
        )[1]


def resolve_monitor(
    monitor: str,
    mode: Literal["auto", "min", "max"],
    *,
    has_validation: bool,
    mode_of_metric: Mapping[str, Mode] = MODE_OF_METRIC,
) -> tuple[str, Mode]:
    """The metric that says which model is best, and whether a small or a large value is good.

    Args:
        monitor: The metric that was asked for; empty for the loss.
        mode: What was asked for.
        has_validation: Whether there are validation pairs.
        mode_of_metric: The metrics whose direction is known, without `val_`.

    Raises:
        UserError: for `auto` and a metric whose direction is not known.

    Example:
        >>> resolve_monitor("", "auto", has_validation=True)
        ('val_loss', 'min')
        >>> resolve_monitor("val_roc_auc", "auto", has_validation=True)
        ('val_roc_auc', 'max')
    """
    monitored = monitor or ("val_loss" if has_validation else "loss")
    if mode != "auto":
        return monitored, mode
    known = mode_of_metric.get(monitored.removeprefix("val_"))
    if known is None:
        raise UserError(
            f"`monitor_mode` auto knows {', '.join(mode_of_metric)}, also after `val_`. Received: "
            f"monitor={monitor!r}. Set monitor_mode to min or max."
        )
    return monitored, known


@dataclass(frozen=True, kw_only=True)
class ScoringConfig(Options):
    """What a finished run is applied to."""

    run: Annotated[str, FILLED]
    """The run folder of a finished training."""
    pairs: Annotated[str, FILLED]
    """Folder or URI of the pairs to score."""
    trust_code: bool = False
    """Execute the sources that the run folder keeps of a model of one's own."""
    model: str = ""
    """Where these sources lie instead, as `train --model` takes it; nothing of the run folder is
    executed then."""
    batch_size: Annotated[int, at_least(1)] = 256
    """Pairs scored at a time."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used: stop, or leave it out and count it."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ScoringConfig):
    """One evaluation of a finished run."""

    output: Annotated[str, FILLED]
    """Folder for metrics.json and report.html."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ScoringConfig):
    """One scoring of pairs by a finished run."""

    output: Annotated[str, FILLED]
    """The Parquet file to write; it must not exist."""


# Groups in the help of `sharedlayers pairs` and of the scripts in datasets/.
_ITEMS = section("The items")
_PAIRS = section("The pairs")
_SETS = section("The sets")


@dataclass(frozen=True, kw_only=True)
class MakingConfig(Options):
    """What everything that makes a pair dataset can be told."""

    output: Annotated[str, _PAIRS]
    """Local folder to make, with the sets train, validation and test in it."""
    num_pairs: Annotated[int | None, at_least(1), _PAIRS] = None
    """Pairs in all sets together; by default 5 for each item, or as many as can be made."""
    seed: Annotated[int, at_least(0), _PAIRS] = 0
    """Seed of the split and of the choice of pairs."""
    positive_share: Annotated[float, SHARE, _PAIRS] = 0.5
    """Share of the pairs whose two items are of one group."""
    validation_share: Annotated[float, SHARE, _SETS] = 0.1
    """Share of the items, and of the pairs, in the validation set; 0 makes none."""
    test_share: Annotated[float, SHARE, _SETS] = 0.1
    """Share of the items, and of the pairs, in the test set; 0 makes none."""
    split_by: Annotated[Literal["group", "item"], _SETS] = "group"
    """What two sets never share: groups (and so items), or items only."""

    def _check_rules(self) -> None:
        require(
            bool(self.output) and "://" not in self.output,
            "`output` must name a local folder.",
            output=self.output,
        )
        require(
            self.validation_share + self.test_share < 1,
            "`validation_share` and `test_share` must leave something for training.",
            validation_share=self.validation_share,
            test_share=self.test_share,
        )


@dataclass(frozen=True, kw_only=True)
class PairsConfig(MakingConfig):
    """Makes a pair dataset (training, validation and test set) from labelled items."""

    items: Annotated[str, FILLED, _ITEMS]
    """File with one item a row (.csv, .tsv, .jsonl or .parquet, also compressed or as a URI), or a
    folder of such files, or a folder of image folders (GROUP/IMAGE.png), which needs no columns."""
    item: Annotated[str, _ITEMS] = ""
    """Column with the items: texts, or, in Parquet, ids of tokens, vectors or images as well; which
    of them follows from its type."""
    text: Annotated[str, _ITEMS] = ""
    """The same, for texts alone."""
    image: Annotated[str, _ITEMS] = ""
    """The same, for images alone."""
    group: Annotated[str, _ITEMS] = ""
    """Column that says whose item it is (author, digit, product, ...)."""
    on_bad_row: Annotated[Literal["error", "skip"], _ITEMS] = "error"
    """What to do with a row that has no item or group: stop, or leave it out and count it."""

    def _check_rules(self) -> None:
        columns = {"item": self.item, "text": self.text, "image": self.image}
        given = [column for column in columns.values() if column]
        require(
            len(given) == 1 or not (given or self.group),
            "Exactly one of `item`, `text` and `image` must name a column, beside `group`; a "
            "folder of image folders needs none of them.",
            **columns,
            group=self.group,
        )
        require(
            not given or bool(self.group),
            "`group` must name the column that says whose item it is.",
            **columns,
            group=self.group,
        )
        require(
            self.group not in given,
            "`group` must be another column than that of the items.",
            group=self.group,
        )


# Groups in the help of `sharedlayers inspect`.
_DATASETS = section("The datasets")
_STEPS = section("Steps to count")
_REPORT = section("The report")


@dataclass(frozen=True, kw_only=True)
class InspectConfig(Options):
    """Looks a pair dataset over: what is in it, and what is wrong with it."""

    datasets: Annotated[tuple[str, ...], _DATASETS] = field(kw_only=False)
    """Folders or URIs of pair datasets, or of folders with the sets train, validation and test;
    what several sets share is looked for."""
    verify: Annotated[bool, _DATASETS] = False
    """Read every row; otherwise up to 200,000 of each set."""
    batch_size: Annotated[int, at_least(1), _STEPS] = 256
    """Pairs per step over all ranks, to count steps for."""
    num_ranks: Annotated[int, at_least(1), _STEPS] = 1
    """Ranks to count steps for."""
    num_streams: Annotated[int, at_least(1), _STEPS] = 24
    """Parts that each global batch is read in, as in training."""
    split_by: Annotated[Literal["recorded", "group", "item"], _DATASETS] = "recorded"
    """What the sets must not share: groups and items, or items only; `recorded` takes what the
    dataset says, and groups where it says nothing."""
    plot: Annotated[str, _REPORT] = ""
    """PNG file to draw the distributions to."""
    json: Annotated[bool, _REPORT] = False
    """Print the report as JSON."""

    def _check_rules(self) -> None:
        require(
            bool(self.datasets) and all(self.datasets),
            "`datasets` must name at least one folder.",
            datasets=self.datasets,
        )
        require(
            self.num_ranks <= self.num_streams,
            "There cannot be more ranks than streams.",
            num_ranks=self.num_ranks,
            num_streams=self.num_streams,
        )
        require(
            not self.plot or self.plot.endswith(".png"),
            "`plot` must name a PNG file.",
            plot=self.plot,
        )
