"""Models with shared layers in functional Keras 3: the zoo, pair models, and the node API.

Names are imported on first use, so that listing the models loads no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
