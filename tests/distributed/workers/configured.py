"""One rank of a training whose options are in the file of its host: `... FOLDER`.

The file is called rank-N.toml, and stands for one of a name that has other contents on each host.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sharedlayers_dist import cli

if __name__ == "__main__":
    cli.main(
        ["train", "--config", str(Path(sys.argv[1], f"rank-{os.environ['HOROVOD_RANK']}.toml"))]
    )
