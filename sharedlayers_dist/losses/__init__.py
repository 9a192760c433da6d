"""Losses for pair models and encoders, in Keras 3 alone: of listed pairs, and of whole batches.

Names are imported on first use. The losses need nothing of the package but its errors, and are made
of Keras's own operations, so that they are tied to no backend.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
