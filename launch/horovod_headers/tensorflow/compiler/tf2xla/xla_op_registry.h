// Empty on purpose: the real header needs farmhash.h, which TensorFlow's package does not ship.
// Included by horovod/tensorflow/xla_mpi_ops.cc alone, whose code is switched off
// (see tf2xla/xla_op_kernel.h beside this one).
#pragma once
