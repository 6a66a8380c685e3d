"""`python -m daemons` is the command line."""

from daemons.cli import main

if __name__ == "__main__":
    main()
