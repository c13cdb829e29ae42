"""`python -m vibora`: the command line of `vibora.cli`."""

from vibora.cli import main

if __name__ == "__main__":
    main()
