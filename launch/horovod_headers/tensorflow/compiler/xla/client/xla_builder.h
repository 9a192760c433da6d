// Empty on purpose: TensorFlow moved the real header to xla/hlo/builder/.
// Included by horovod/tensorflow/xla_mpi_ops.cc alone, whose code is switched off
// (see tf2xla/xla_op_kernel.h beside this one).
#pragma once
