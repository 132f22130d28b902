"""Where the `armfold` command begins: an interrupt is one line from the first moment on, as imports take seconds."""

import sys


def main() -> int:
    """Run the command; returns its exit status."""
    try:
        from armfold.shell import cli

        return cli.main()
    except KeyboardInterrupt:
        print("armfold: error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
