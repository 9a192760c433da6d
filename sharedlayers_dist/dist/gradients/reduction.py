"""Gradients of one rank in, gradients of all ranks out: what a step's graph gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collective_timing import CollectiveTimer
from sharedlayers_dist.dist.gradients.reduction_options import (
    Adasum,
    Average,
    ReductionOptions,
    Sum,
    split_into_groups,
)
from sharedlayers_dist.dist.gradients.step_flags import StepFlags


class NoReduction:
    """Stands in for `GradientReduction` where there is one rank."""

    @property
    def ranks(self) -> list[int]:
        """This one."""
        return [0]

    def reduce(self, gradients: Sequence[Any], *_: Any) -> list[Any]:
        """Returns the gradients."""
        return list(gradients)


class GradientReduction:
    """Combines gradients over the ranks of a process set.

    With `op` Average and samples counted, the result is the mean over all samples,
    `sum_r(n_r * g_r) / sum_r(n_r)`, for gradients `g_r` that are means over `n_r` samples. The
    counts travel with the gradients, in the same grouped reduction. If they turn out equal, which
    they are in all but the last batch of an epoch, the plain mean that came with them is exact and
    is used as it is; if not, every rank knows it, and the weighted gradients are reduced instead.
    So a step costs one reduction, and none of its values depends on an earlier step's.

    Args:
        options: How gradients are combined.
        name: Prefix of the operations' names; the same on all ranks, unique in the process.
    """

    def __init__(self, options: ReductionOptions, *, name: str) -> None:
        self._options = options
        self._name = name
        self._horovod = runtime.horovod_module()
        self._ranks = options.process_set or self._horovod.global_process_set
        with tf.init_scope():
            # Horovod's operations are not marked as stateful, so TensorFlow would evaluate one
            # with constant input while it optimizes the graph, at another time than other ranks.
            # A variable's value, which goes into every group, is never constant.
            self._zero = tf.Variable(0.0, trainable=False, name="zero")
        self._clock = CollectiveTimer()

    @property
    def ranks(self) -> list[int]:
        """The ranks that reduce with this one, itself included."""
        everyone = list(range(runtime.size()))
        chosen = self._ranks.ranks if self._options.process_set is not None else None
        if chosen is None:
            return everyone
        return sorted(chosen) if self._ranks.included() else [runtime.rank()]

    def reduce(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        num_samples: tf.Tensor | None,
        flags: StepFlags | None,
    ) -> list[Any]:
        """Returns the gradients over all ranks, in the same order, None where None was.

        Args:
            gradients: This rank's: tensors, `tf.IndexedSlices` or None.
            variables: Those of `gradients`, in the same order; only for `groups` that list them.
            num_samples: Scalar float64, how many samples of this rank they are means of; None to
                give every rank the same weight.
            flags: Numbers to travel along, the same kind on all ranks; None for none.
        """
        if not self._ranks.included() or self._ranks.size() == 1:
            if flags is not None:
                flags.tell(flags.own)
            return list(gradients)
        return self._clock.count(
            gradients, lambda: self._reduce_all(gradients, variables, num_samples, flags)
        )

    def _reduce_all(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        num_samples: tf.Tensor | None,
        flags: StepFlags | None,
    ) -> list[Any]:
        options = self._options
        reduced = list(gradients)
        if options.sparse_as_dense:
            reduced = [tf.convert_to_tensor(g) if _is_sparse(g) else g for g in reduced]
        dense = [i for i, g in enumerate(reduced) if g is not None and not _is_sparse(g)]
        sparse = [i for i, g in enumerate(reduced) if _is_sparse(g)]
        local = [reduced[i] for i in dense]
        groups = split_into_groups(options.groups, [variables[i] for i in dense])
        counts, means = self._reduce_telling(local, groups, num_samples, flags)
        if counts is not None and local:
            means = self._mean_over_samples(counts, local, means, groups)
        for i, gradient in zip(dense, means, strict=True):
            reduced[i] = gradient
        if sparse:
            slices = self._reduce_sparse([reduced[i] for i in sparse], counts)
            for i, gradient in zip(sparse, slices, strict=True):
                reduced[i] = gradient
        return reduced

    def _reduce_telling(
        self,
        gradients: list[Any],
        groups: list[list[int]],
        num_samples: tf.Tensor | None,
        flags: StepFlags | None,
    ) -> tuple[tf.Tensor | None, list[Any]]:
        """Reduces dense gradients together with the samples and the flags of the ranks.

        Returns:
            The samples of each rank, `(ranks,)`, or None if gradients are not weighted by them; and
            the gradients, combined by `op`.
        """
        ranks, op = self._ranks.size(), self._options.op
        is_weighted = op == Average and num_samples is not None
        parts = []
        if is_weighted:
            parts.append(num_samples * tf.one_hot(self._ranks.rank(), ranks, dtype=tf.float64))
        if flags is not None:
            parts.append(flags.own)
        if not parts:
            return None, self._reduce_dense(gradients, groups, "gradients")
        is_double = any(g.dtype == tf.float64 for g in gradients)
        dtype = tf.float64 if is_double else tf.float32  # That of gradients, to be one operation.
        own = tf.cast(tf.concat(parts, axis=0) * (ranks if op == Average else 1.0), dtype)
        if op == Adasum:  # What it makes of numbers is no sum.
            (told,) = self._grouped([own], "flags", op=Sum)
            reduced = self._reduce_dense(gradients, groups, "gradients")
        else:
            after_own = [[i + 1 for i in group] for group in groups] or [[]]
            told, *reduced = self._reduce_dense(
                [own, *gradients],
                [[0, *after_own[0]], *after_own[1:]],
                "gradients",
                num_exact=1,
            )
        if flags is not None:
            flags.tell(told[ranks:] if is_weighted else told)
        return (told[:ranks] if is_weighted else None), reduced

    def _mean_over_samples(
        self, counts: tf.Tensor, gradients: list[Any], means: list[Any], groups: list[list[int]]
    ) -> list[Any]:
        """Returns the mean of dense gradients over the samples of all ranks.

        Args:
            counts: The samples of each rank, `(ranks,)`.
            gradients: This rank's.
            means: Their means over ranks.
            groups: Which of them are reduced together, as positions.
        """
        ranks = self._ranks.size()

        def weigh() -> list[Any]:
            weight = self._share(counts) * ranks
            # A rank without samples counts for nothing, even where its gradient is not finite.
            weighted = [tf.math.multiply_no_nan(g, tf.cast(weight, g.dtype)) for g in gradients]
            return self._reduce_dense(weighted, groups, "weighted")

        # Where no rank has samples, every share is 0, and so are the gradients.
        is_plain = tf.reduce_all(tf.equal(counts, counts[0])) & tf.not_equal(counts[0], 0)
        return tf.cond(is_plain, lambda: means, weigh)

    def _reduce_dense(
        self, tensors: list[Any], groups: list[list[int]], tag: str, *, num_exact: int = 0
    ) -> list[Any]:
        """Reduces dense tensors, one operation per group and dtype.

        The first `num_exact` are not compressed.
        """
        options, horovod = self._options, self._horovod
        compression = options.compression or horovod.Compression.none
        reduced = list(tensors)
        for number, group in enumerate(groups):
            packed = [_as_reducible(tensors[i]) for i in group]
            contexts: list[Any] = [None] * len(group)
            for k, i in enumerate(group):
                if i >= num_exact:
                    packed[k], contexts[k] = compression.compress(packed[k])
            for dtype in sorted({t.dtype for t in packed}, key=lambda d: d.name):
                members = [k for k, t in enumerate(packed) if t.dtype == dtype]
                outputs = self._grouped(
                    [packed[k] for k in members], f"{tag}.{number}.{dtype.name}"
                )
                for k, output in zip(members, outputs, strict=True):
                    if group[k] >= num_exact:
                        output = compression.decompress(output, contexts[k])
                    reduced[group[k]] = tf.cast(output, tensors[group[k]].dtype)
        return reduced

    def _grouped(self, tensors: list[Any], tag: str, *, op: str | None = None) -> list[Any]:
        """One grouped reduction of tensors of one dtype, by `op` or that of the options."""
        horovod, factor = self._horovod, self._options.gradient_predivide_factor
        operations = {Average: horovod.Average, Sum: horovod.Sum, Adasum: horovod.Adasum}
        zero = tf.cast(self._zero.read_value(), tensors[0].dtype)
        return horovod.grouped_allreduce(
            [zero, *tensors],
            op=operations[op or self._options.op],
            prescale_factor=1.0 / factor,
            postscale_factor=factor,
            process_set=self._ranks,
            name=f"{self._name}.{tag}",
            ignore_name_scope=True,
        )[1:]

    def _reduce_sparse(self, slices: list[Any], counts: tf.Tensor | None) -> list[Any]:
        """Gathers the rows of all ranks; they are added up where an index comes more than once."""
        ranks = self._ranks.size()
        if counts is not None:
            weight = self._share(counts)
        else:
            weight = tf.constant(1.0 / ranks if self._options.op == Average else 1.0, tf.float64)
        gathered = []
        for number, one in enumerate(slices):
            values = tf.math.multiply_no_nan(one.values, tf.cast(weight, one.values.dtype))
            values, dtype = _as_reducible(values), values.dtype
            values, indices = [
                self._horovod.allgather(
                    part,
                    name=f"{self._name}.{tag}.{number}",
                    ignore_name_scope=True,
                    process_set=self._ranks,
                )
                for tag, part in (("values", values), ("indices", one.indices))
            ]
            gathered.append(tf.IndexedSlices(tf.cast(values, dtype), indices, one.dense_shape))
        return gathered

    def _share(self, counts: tf.Tensor) -> tf.Tensor:
        """Returns this rank's part of the samples, float64; 0 if there are none."""
        counts = tf.cast(counts, tf.float64)
        return tf.math.divide_no_nan(counts[self._ranks.rank()], tf.reduce_sum(counts))


def _is_sparse(gradient: Any) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def _as_reducible(tensor: Any) -> Any:
    """Casts what Horovod's operations do not take, such as bfloat16, to float32."""
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype in (tf.float16, tf.float32, tf.float64):
        return tensor
    return tf.cast(tensor, tf.float32)
