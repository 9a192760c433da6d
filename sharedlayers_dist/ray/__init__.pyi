# The public names and the modules that they are imported from on first use.
from .backend import HorovodConfig as HorovodConfig
from .backend import num_restarts as num_restarts
from .driver import train as train
from .driver import train_for_result as train_for_result
