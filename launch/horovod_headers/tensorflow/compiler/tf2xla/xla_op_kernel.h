// Stands in for TensorFlow's header of the same name while Horovod is built.
//
// The real one pulls in highwayhash/arch_specific.h and farmhash.h, which TensorFlow's package does
// not ship. Only horovod/tensorflow/xla_mpi_ops.cc includes it, and that file is the one part of
// Horovod left out here: its XLA custom calls use an interface that XLA has announced to remove.
// Defining HAVE_GPU as 0 empties the rest of that file in a CUDA build; in a CPU build it already is.
#pragma once
#undef HAVE_GPU
#define HAVE_GPU 0
