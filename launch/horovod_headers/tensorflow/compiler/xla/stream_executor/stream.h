// Forwards to where TensorFlow has moved this header, and gives CUDA builds one function back.
//
// Horovod's GPU code asks TensorFlow for the CUDA stream through AsGpuStreamValue, which
// TensorFlow exported until 2.20. Without it the build succeeds and the import fails with an
// undefined symbol. horovod/tensorflow/mpi_ops.cc declares it just before including this file.
#pragma once
#include "xla/stream_executor/stream.h"

#if HAVE_GPU
#include <cuda_runtime.h>

namespace stream_executor {
namespace gpu {
inline cudaStream_t AsGpuStreamValue(Stream* stream) {
  return static_cast<cudaStream_t>(stream->platform_specific_handle().stream);
}
}  // namespace gpu
}  // namespace stream_executor
#endif
