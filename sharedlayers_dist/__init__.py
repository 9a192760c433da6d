"""Train Keras 3 models with shared layers on pair data: on one process, or on many with Horovod.

The public names are imported on first use, so that `import sharedlayers_dist` loads no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
