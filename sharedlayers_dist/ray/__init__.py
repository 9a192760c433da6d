"""Training on a Ray cluster: Horovod for Ray Train, actors that read the pairs, and the launcher.

`HorovodConfig` serves train functions that use nothing else of this project.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
