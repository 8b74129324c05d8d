"""`python -m trackkit`."""

from trackkit.cli.entry import main

if __name__ == "__main__":
    main()
