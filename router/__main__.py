"""The command `sluice`, and `python -m router`: hands the arguments to the command line."""

import sys

from router.admin.cli.app import run


def main() -> None:
    """Run the command of this process and end it with the command's exit status."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
