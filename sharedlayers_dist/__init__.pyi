# The public names and the modules that they are imported from on first use.
from . import data as data
from . import dist as dist
from . import evaluate as evaluate
from . import losses as losses
from . import models as models
from . import ray as ray
from .config import TrainConfig as TrainConfig
from .training import TrainResult as TrainResult
from .training import train as train
from .world import World as World

__version__: str
