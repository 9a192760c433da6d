"""`python -m sharedlayers_dist` is the `sharedlayers` command."""

from sharedlayers_dist.cli import main

if __name__ == "__main__":
    main()
