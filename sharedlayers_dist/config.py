"""Every option of every command: frozen dataclasses that check themselves.

The command line is derived from these classes; the string under a field is the option's help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sharedlayers_dist.errors import UserError


def _require(holds: bool, rule: str, **received: Any) -> None:
    """Raises UserError with `rule` and what was `received` unless it `holds`."""
    if not holds:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise UserError(f"{rule} Received: {values}.")


def _require_choices(config: Any) -> None:
    """Raises UserError for a field with none of the values that its Literal type lists."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            value, choices = getattr(config, name), get_args(hint)
            _require(
                value in choices, f"`{name}` must be one of {', '.join(choices)}.", **{name: value}
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run: the same configuration gives the same result under every launcher."""

    pairs: str
    """Folder or filesystem URI of the training pairs (Parquet with columns a, b, label)."""
    output: str
    """The run folder to make; a folder that holds another run is refused."""
    model: Literal["tweet_pair", "digit_pair"] = "tweet_pair"
    """The pair model to train; `sharedlayers models` lists them."""
    head: Literal["concatenation", "absolute_difference", "cosine"] = "concatenation"
    """How the two encodings are compared; the notebook's is concatenation."""
    validation: str = ""
    """Folder or URI of validation pairs, evaluated after each epoch; empty for none."""
    epochs: int = 10
    """Passes over the training pairs."""
    batch_size: int = 256
    """Pairs per step over all ranks; each rank takes its share."""
    learning_rate: float = 0.001
    """Step size of the optimizer at the global batch size; it is not scaled by the ranks."""
    seed: int = 0
    """Seed of the initial weights and of the order of the pairs."""
    num_streams: int = 24
    """Parts that each global batch is read in; the most ranks that can share a run."""
    window: int = 0
    """Row groups of a stream whose rows are shuffled together; 0 leaves it to the plan."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used: stop, or leave it out and count it."""
    mix: tuple[str, ...] = ()
    """Further pair datasets to mix in, each as WEIGHT*URI; `pairs` has the weight 1."""
    groups_per_batch: int = 0
    """Make pairs on the fly: `pairs` names items, and a step takes all pairs within this many
    groups (batch_size is not used then). 0 reads pairs."""
    items_per_group: int = 4
    """The most items of each group in a step, for pairs made on the fly."""
    item_column: str = "text"
    """Column of the items, for pairs made on the fly."""
    group_column: str = "group"
    """Column that says whose item it is, for pairs made on the fly."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Write the figures as events for TensorBoard too, to the folder `tensorboard` of the run."""
    checkpoint_every: int = 0
    """Steps between checkpoints within an epoch; 0 for the ends of epochs alone."""
    checkpoint_minutes: float = 0.0
    """Minutes between checkpoints within an epoch, by rank zero's clock; 0 for none."""
    keep_checkpoints: int = 3
    """How many of the newest checkpoints stay."""
    keep_best: int = 1
    """How many of the best checkpoints stay, by `monitor`."""
    keep_every: int = 0
    """Checkpoints at multiples of this many steps stay for good; 0 for none."""
    monitor: str = ""
    """Metric that says which model is best; by default val_loss, or loss without validation."""
    monitor_mode: Literal["min", "max"] = "min"
    """Whether a small or a large value of `monitor` is good."""
    early_stopping: int = 0
    """Epochs without a better `monitor` after which training stops; 0 for never."""
    plateau: int = 0
    """Epochs without a better `monitor` after which the learning rate is cut to a fifth; 0 for
    never."""
    initialize_from: str = ""
    """Run folder whose newest weights a new run starts from; nothing else is taken from it."""
    resume: bool = False
    """Go on from the newest checkpoint in the run folder."""
    launcher: Literal["auto", "local", "ray"] = "auto"
    """`auto` is Horovod when horovodrun started this process, else one process; `ray` starts
    num_workers ranks on a Ray cluster."""
    num_workers: int | str = 1
    """Ray: ranks to train on, N, or MIN:MAX for a group that shrinks and grows with the cluster."""
    use_gpu: bool = False
    """Ray: give each worker a GPU of its own."""
    cpus_per_worker: float = 1.0
    """Ray: CPUs that each worker takes."""
    num_shard_actors: int = -1
    """Ray: actors that read and encode the pairs for the workers; -1 for one for each worker, 0 to
    read in the workers themselves."""
    cpus_per_shard_actor: float = 0.0
    """Ray: CPUs that each of these actors reserves; 0 lets them share those of the nodes they are
    on."""
    address: str = ""
    """Ray: the cluster to join (`auto` or host:port), or `local` for one of this machine alone;
    empty for RAY_ADDRESS, else for what `ray start` has started here, else for `local`."""
    max_failures: int = 3
    """Ray: how often the workers are started again, from the last checkpoint, after one failed."""
    placement_seconds: float = 120.0
    """Ray: how long to wait for the CPUs and GPUs asked for before saying what is missing."""

    @property
    def worker_range(self) -> tuple[int, int]:
        """The fewest and the most workers of a run on Ray."""
        fewest, _, most = str(self.num_workers).partition(":")
        return int(fewest), int(most or fewest)

    @property
    def monitored(self) -> str:
        """The metric that says which model is best."""
        return self.monitor or ("val_loss" if self.validation else "loss")

    def __post_init__(self) -> None:
        """Checks every value that can be checked without looking at files."""
        _require_choices(self)
        _require(bool(self.pairs), "`pairs` must name a folder.", pairs=self.pairs)
        _require(bool(self.output), "`output` must name a folder.", output=self.output)
        for name in ("epochs", "batch_size", "num_streams", "log_every", "keep_checkpoints"):
            value = getattr(self, name)
            _require(value >= 1, f"`{name}` must be at least 1.", **{name: value})
        _require(
            re.fullmatch(r"\d+(:\d+)?", str(self.num_workers)) is not None
            and 1 <= self.worker_range[0] <= self.worker_range[1],
            "`num_workers` must be N or MIN:MAX, with at least 1 worker.",
            num_workers=self.num_workers,
        )
        _require(
            self.num_shard_actors >= -1,
            "`num_shard_actors` must be at least 0, or -1 for one for each worker.",
            num_shard_actors=self.num_shard_actors,
        )
        _require(
            self.learning_rate > 0,
            "`learning_rate` must be positive.",
            learning_rate=self.learning_rate,
        )
        _require(
            not (self.mix and self.groups_per_batch),
            "Pairs made on the fly come from one set of items.",
            mix=self.mix,
            groups_per_batch=self.groups_per_batch,
        )
        _require(
            self.items_per_group >= 2,
            "`items_per_group` must be at least 2 to make pairs.",
            items_per_group=self.items_per_group,
        )
        for name in (
            "seed",
            "window",
            "groups_per_batch",
            "checkpoint_every",
            "checkpoint_minutes",
            "keep_best",
            "keep_every",
            "early_stopping",
            "plateau",
            "cpus_per_worker",
            "cpus_per_shard_actor",
            "max_failures",
            "placement_seconds",
        ):
            value = getattr(self, name)
            _require(value >= 0, f"`{name}` must not be negative.", **{name: value})


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringConfig:
    """What a finished run is applied to."""

    run: str
    """The run folder of a finished training."""
    pairs: str
    """Folder or URI of the pairs to score."""
    batch_size: int = 256
    """Pairs scored at a time."""

    def __post_init__(self) -> None:
        """Checks every value that can be checked without looking at files."""
        _require(
            self.batch_size >= 1, "`batch_size` must be at least 1.", batch_size=self.batch_size
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(ScoringConfig):
    """One evaluation of a finished run."""

    output: str
    """Folder for metrics.json and report.html."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig(ScoringConfig):
    """One scoring of pairs by a finished run."""

    output: str
    """The Parquet file to write; it must not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MakingConfig:
    """What everything that makes a pair dataset can be told."""

    output: str
    """Local folder to make, with the sets train, validation and test in it."""
    num_pairs: int | None = None
    """Pairs in all sets together; by default 5 for each item, or as many as can be made."""
    seed: int = 0
    """Seed of the split and of the choice of pairs."""
    positive_share: float = 0.5
    """Share of the pairs whose two items are of one group."""
    validation_share: float = 0.1
    """Share of the items, and of the pairs, in the validation set; 0 makes none."""
    test_share: float = 0.1
    """Share of the items, and of the pairs, in the test set; 0 makes none."""
    split_by: Literal["group", "item"] = "group"
    """What two sets never share: groups (and so items), or items only."""

    def __post_init__(self) -> None:
        """Checks every value that can be checked without looking at files."""
        _require_choices(self)
        _require(
            bool(self.output) and "://" not in self.output,
            "`output` must name a local folder.",
            output=self.output,
        )
        if self.num_pairs is not None:
            _require(
                self.num_pairs >= 1, "`num_pairs` must be at least 1.", num_pairs=self.num_pairs
            )
        _require(self.seed >= 0, "`seed` must not be negative.", seed=self.seed)
        _require(
            0 <= self.positive_share <= 1,
            "`positive_share` must lie between 0 and 1.",
            positive_share=self.positive_share,
        )
        _require(
            self.validation_share >= 0
            and self.test_share >= 0
            and self.validation_share + self.test_share < 1,
            "`validation_share` and `test_share` must not be negative, and must leave something "
            "for training.",
            validation_share=self.validation_share,
            test_share=self.test_share,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsConfig(MakingConfig):
    """Makes a pair dataset (training, validation and test set) from labelled items."""

    items: str
    """File with one item a row (.csv, .tsv, .jsonl or .parquet, also compressed or as a URI), or a
    folder of such files."""
    text: str = ""
    """Column with the items' texts; give this or `image`."""
    image: str = ""
    """Column with the items' images (Parquet only, uint8 fixed_shape_tensor)."""
    group: str
    """Column that says whose item it is (author, digit, product, ...)."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that has no item or group: stop, or leave it out and count it."""

    def __post_init__(self) -> None:
        """Checks every value that can be checked without looking at files."""
        MakingConfig.__post_init__(self)
        _require(bool(self.items), "`items` must name a file.", items=self.items)
        _require(bool(self.group), "`group` must name a column.", group=self.group)
        _require(
            bool(self.text) != bool(self.image),
            "Exactly one of `text` and `image` must name a column.",
            text=self.text,
            image=self.image,
        )
        _require(
            self.group not in (self.text, self.image),
            "`group` must be another column than that of the items.",
            group=self.group,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectConfig:
    """Looks a pair dataset over: what is in it, and what is wrong with it."""

    datasets: tuple[str, ...] = field(kw_only=False)
    """Folders or URIs of pair datasets, or of folders with the sets train, validation and test;
    what several sets share is looked for."""
    verify: bool = False
    """Read every row; otherwise up to 200,000 of each set."""
    batch_size: int = 256
    """Pairs per step over all ranks, to count steps for."""
    num_ranks: int = 1
    """Ranks to count steps for."""
    num_streams: int = 24
    """Parts that each global batch is read in, as in training."""
    split_by: Literal["recorded", "group", "item"] = "recorded"
    """What the sets must not share: groups and items, or items only; `recorded` takes what the
    dataset says, and groups where it says nothing."""
    plot: str = ""
    """PNG file to draw the distributions to."""
    json: bool = False
    """Print the report as JSON."""

    def __post_init__(self) -> None:
        """Checks every value that can be checked without looking at files."""
        _require_choices(self)
        _require(
            bool(self.datasets) and all(self.datasets),
            "`datasets` must name at least one folder.",
            datasets=self.datasets,
        )
        for name in ("batch_size", "num_ranks", "num_streams"):
            value = getattr(self, name)
            _require(value >= 1, f"`{name}` must be at least 1.", **{name: value})
        _require(
            self.num_ranks <= self.num_streams,
            "There cannot be more ranks than streams.",
            num_ranks=self.num_ranks,
            num_streams=self.num_streams,
        )
        _require(
            not self.plot or self.plot.endswith(".png"),
            "`plot` must name a PNG file.",
            plot=self.plot,
        )
