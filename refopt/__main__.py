"""`python -m refopt`, the same as `refopt`."""

from refopt.cli import main

if __name__ == "__main__":
    main()
