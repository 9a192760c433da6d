"""`DistributedOptimizer`: any Keras 3 optimizer, applied to the gradients of all ranks."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.gradients.accumulation import LocalAccumulation
from sharedlayers_dist.dist.gradients.keras_hooks import (
    note_functions_of_batches,
    trainable_variables_of,
)
from sharedlayers_dist.dist.gradients.reduction import GradientReduction, NoReduction
from sharedlayers_dist.dist.gradients.reduction_options import (
    Adasum,
    Average,
    ReductionOptions,
    Sum,
)
from sharedlayers_dist.dist.gradients.rows import WithDenseRows, make_dense_on_gpu, sees_gpu
from sharedlayers_dist.dist.gradients.sample_counts import current_num_samples
from sharedlayers_dist.dist.gradients.step_flags import current_flags
from sharedlayers_dist.errors import UserError

_Apply = Callable[[list[Any], list[Any]], Any]
_numbers = itertools.count()


# Long because it tells Horovod's options one by one.
def DistributedOptimizer(
    optimizer: keras.optimizers.Optimizer,
    *,
    op: str = Average,
    compression: Any = None,
    backward_passes_per_step: int = 1,
    average_aggregated_gradients: bool = False,
    gradient_predivide_factor: float = 1.0,
    sparse_as_dense: bool = False,
    groups: int | Sequence[Sequence[Any]] | None = None,
    process_set: Any = None,
) -> keras.optimizers.Optimizer:
    """Makes `optimizer` apply the gradients of all ranks, and returns it.

    It stays the optimizer that it was, with its variables and settings, and is saved as such: a
    model saved with it opens in plain Keras, without Horovod and without this package. Clipping,
    weight decay, moving averages and Keras's own gradient accumulation act on the reduced
    gradients. With one rank it is returned untouched, unless gradients are to be accumulated.

    Args:
        optimizer: Any Keras 3 optimizer, built or not, also a `LossScaleOptimizer`.
        op: `Average` for the mean over all samples, when `prepare` or `local_batch` has said how
            many each rank has, and the mean over ranks otherwise; `Sum`; or `Adasum`.
        compression: `horovod.tensorflow.Compression.none` or `.fp16`.
        backward_passes_per_step: Gradients to accumulate on each rank before one reduction and one
            update, weighted by their samples as those of ranks are. `optimizer.iterations` counts
            updates. Passes are counted on through the ends of epochs, as Keras and Horovod do.
        average_aggregated_gradients: Whether the accumulated gradient is the mean over the passes
            instead of their sum.
        gradient_predivide_factor: Splits the division of an average: by this before the sum, by
            the number of ranks over this after it.
        sparse_as_dense: Whether `tf.IndexedSlices` are made dense and reduced with the others,
            instead of being gathered row by row. On a GPU they always are, in one process too.
        groups: How many grouped reductions to use, or a list of lists of variables, each list to
            be reduced together; None for all in one.
        process_set: A `horovod.tensorflow.ProcessSet` whose ranks reduce among themselves; ranks
            outside it go on alone. None for all ranks.

    Returns:
        The same optimizer.

    Raises:
        UserError: if an option is out of range, or the optimizer is distributed already.
        RuntimeError: if several ranks were launched and `init` has not been called, or Horovod
            cannot do what is asked.
    """
    _check_options(optimizer, op, backward_passes_per_step, gradient_predivide_factor)
    options = ReductionOptions(
        op=op,
        compression=compression,
        gradient_predivide_factor=gradient_predivide_factor,
        sparse_as_dense=sparse_as_dense,
        groups=groups,
        process_set=process_set,
    )
    if runtime.size() == 1 and backward_passes_per_step == 1:
        if sees_gpu() and not isinstance(optimizer, WithDenseRows):
            _mix_in(optimizer, WithDenseRows)
        return optimizer
    _refuse_a_second_time(optimizer)
    if runtime.size() > 1:
        _check_adasum(options)
    is_mean = average_aggregated_gradients or op == Adasum
    _distribute(optimizer, options, backward_passes_per_step, is_mean=is_mean)
    return optimizer


def _distribute(optimizer: Any, options: ReductionOptions, passes: int, *, is_mean: bool) -> None:
    """Gives an optimizer the class that reduces, and what it reduces with."""
    reduction: GradientReduction | NoReduction = NoReduction()
    if runtime.size() > 1:
        reduction = GradientReduction(options, name=f"sharedlayers_dist.{next(_numbers)}")
        note_functions_of_batches()  # Before the model is compiled, and so before it is evaluated.
    accumulation = LocalAccumulation(passes, mean=is_mean) if passes > 1 else None
    if accumulation is not None and optimizer.built:
        accumulation.build(trainable_variables_of(optimizer))
    distribution = Distribution(reduction, accumulation, is_average=options.op == Average)
    _reduce_before_loss_scaling()
    object.__setattr__(optimizer, "_distribution", distribution)
    _mix_in(optimizer, _Distributed)


class Distribution:
    """The reduction that a distributed optimizer makes before it applies gradients."""

    def __init__(
        self,
        reduction: GradientReduction | NoReduction,
        accumulation: LocalAccumulation | None,
        *,
        is_average: bool,
    ) -> None:
        self.is_average = is_average
        self.is_reduced = False
        """Whether the gradients being applied, as the graph is traced, are reduced already."""
        self.accumulation = accumulation
        self._reduction = reduction

    @property
    def ranks(self) -> list[int]:
        """The ranks whose gradients are reduced with this one's."""
        return self._reduction.ranks

    def apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradients: Sequence[Any],
        variables: Sequence[Any] | None,
        apply_reduced: _Apply,
    ) -> None:
        """Reduces this rank's gradients, and applies the result if this pass ends a step."""
        if runtime.size() > 1:
            _refuse_xla()
        # Sums are not weighted by samples.
        num_samples = current_num_samples() if self.is_average else None
        if num_samples is None and self.is_average:
            warnings.warn(
                "The gradients of all ranks and passes get the same weight, which is not the mean "
                "over all samples where batches are of unequal size. Add `BroadcastInitialState()` "
                "to the callbacks, or call `prepare(model)`; in a training loop of your own, "
                "apply gradients within `local_batch(num_samples)`.",
                stacklevel=2,
            )
        gradients = make_dense_on_gpu(gradients)
        variables = list(trainable_variables_of(optimizer) if variables is None else variables)
        if not optimizer.built:
            # Not later: variables cannot be made within a branch of the graph.
            optimizer.build(variables)

        def reduce_and_apply(local: list[Any], samples: tf.Tensor | None) -> None:
            reduced = self._reduction.reduce(local, variables, samples, current_flags())
            self.is_reduced = True
            try:
                apply_reduced(reduced, variables)
            finally:
                self.is_reduced = False

        if self.accumulation is None:
            reduce_and_apply(gradients, num_samples)
        else:
            self.accumulation.add(gradients, variables, num_samples, reduce_and_apply)


def distribution_of(optimizer: Any) -> Distribution | None:
    """Returns how an optimizer, or one that it wraps, is distributed; None if it is not."""
    while optimizer is not None:
        if isinstance(optimizer, _Distributed):
            return optimizer._distribution
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return None


class _Distributed:
    """Mixed in before an optimizer's own class."""

    _distribution: Distribution

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)  # type: ignore[misc]
        if self._distribution.accumulation is not None:
            self._distribution.accumulation.build(variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        distribution = self._distribution
        own_apply = super().apply  # type: ignore[misc]
        if distribution.is_reduced:
            own_apply(grads, trainable_variables)
        else:
            distribution.apply(self, grads, trainable_variables, own_apply)


def _mix_in(optimizer: Any, mixin: type) -> None:
    """Gives an optimizer the subclass that has `mixin` before its own class."""
    object.__setattr__(optimizer, "__class__", _subclass(mixin, optimizer.__class__))


@functools.cache
def _subclass(mixin: Any, cls: Any) -> type:
    """Returns the subclass; to whom asks an instance for its class, it is `cls`.

    Keras asks `optimizer.__class__` when it serializes, and so records the plain optimizer.
    """
    namespace = {"__module__": cls.__module__, "__class__": property(lambda self: cls)}
    return type(cls.__name__, (mixin, cls), namespace)


@functools.cache
def _reduce_before_loss_scaling() -> None:
    """Makes `LossScaleOptimizer` look at reduced gradients, if what it wraps is distributed.

    It decides by its gradients whether to skip a step, before it calls the optimizer that it
    wraps: if that one reduced, a rank with an infinite gradient would skip what others wait in.
    `model.compile` puts one around the optimizer of a mixed_float16 model by itself.
    """
    plain_apply = keras.optimizers.LossScaleOptimizer.apply

    def apply(self: Any, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        distribution = distribution_of(self.inner_optimizer)
        if distribution is None or distribution.is_reduced:
            plain_apply(self, grads, trainable_variables)
        else:
            own_apply = functools.partial(plain_apply, self)
            distribution.apply(self, grads, trainable_variables, own_apply)

    keras.optimizers.LossScaleOptimizer.apply = apply


def _refuse_xla() -> None:
    """Raises if XLA is to compile what is being traced: Horovod's operations have no XLA form."""
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise UserError(
            "A step that reduces gradients must not be compiled by XLA as a whole. Received: "
            "jit_compile=True. Add `BroadcastInitialState()` to the callbacks or call "
            "`prepare(model)`, which compile the forward and backward pass alone; for a model "
            "with a train_step of its own, compile with jit_compile=False."
        )


def _refuse_a_second_time(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises UserError if an optimizer is distributed already."""
    if distribution_of(optimizer) is not None:
        raise UserError(
            "An optimizer must be distributed once. Received: "
            f"optimizer={optimizer.name!r}, which is distributed already. Remove one "
            "DistributedOptimizer()."
        )


def _check_options(optimizer: Any, op: str, passes: int, predivide_factor: float) -> None:
    """Raises UserError for options out of range; also where one rank ignores them."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise UserError(
            "`optimizer` must be a Keras 3 optimizer. Received: "
            f"optimizer={optimizer!r}. Make it with keras.optimizers.get(...) first."
        )
    if op not in (Average, Sum, Adasum):
        raise UserError(f"`op` must be dist.Average, dist.Sum or dist.Adasum. Received: op={op!r}.")
    if not isinstance(passes, int) or passes < 1:
        raise UserError(
            "`backward_passes_per_step` must be an integer of at least 1. Received: "
            f"backward_passes_per_step={passes!r}."
        )
    if not predivide_factor > 0 or (predivide_factor != 1 and op != Average):
        raise UserError(
            "`gradient_predivide_factor` must be positive, and is for op=Average only. Received: "
            f"gradient_predivide_factor={predivide_factor!r}, op={op!r}."
        )


def _check_adasum(options: ReductionOptions) -> None:
    """Raises if Adasum is asked for where Horovod has none."""
    if options.op != Adasum:
        return
    horovod, size = runtime.horovod_module(), runtime.size()
    if size & (size - 1):
        raise UserError(f"Adasum needs a power of two of ranks. Received: op=Adasum, {size} ranks.")
    if options.process_set is not None:
        raise UserError("Adasum works over all ranks only. Received: op=Adasum, process_set.")
    if not horovod.mpi_enabled():
        raise RuntimeError(
            "Adasum needs a Horovod that was built with MPI and started by mpirun; over Gloo it "
            "has none. Received: op=Adasum. Use op=dist.Average."
        )
