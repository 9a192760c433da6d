"""Horovod for Keras 3: any model's own `fit`, over many ranks, exactly.

Three lines change a script for one process:

    dist.init()
    optimizer = dist.DistributedOptimizer(optimizer)
    model.fit(..., callbacks=dist.default_callbacks())

This is the only part of the package that imports Horovod, and it does so only where a launcher
started several ranks. With one rank all of it does nothing. The public names are imported on first
use, so that a launcher can serve a rendezvous without loading TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
