"""Run the command line: ``python -m ima.cli``."""

from ima.cli import main

if __name__ == "__main__":
    main()
