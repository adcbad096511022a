"""`python -m k4_pipeline.cli`: the same as the `k4` command."""

from k4_pipeline.cli import main

if __name__ == "__main__":
    main()
