"""Pair datasets in Parquet: what they look like, the order they are read in, and their making.

The public names are imported on first use; only `as_tf_dataset` loads TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
