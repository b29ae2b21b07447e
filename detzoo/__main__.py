"""`python -m detzoo` is `detzoo`."""

from detzoo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
