"""The command line: ``python -m numbaconv info``, ``warmup`` and ``build-kernels``."""

import sys

import numbaconv as nc


def main() -> None:
    """Run the command line; without its extra packages, `info` alone still works."""
    try:
        from numbaconv.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        if sys.argv[1:] == ["info"]:
            nc.show_config()
            return
        sys.exit(f'{error.name} is not installed; pip install "numbaconv[cli]"')
    app(prog_name="python -m numbaconv")


if __name__ == "__main__":
    main()
