"""The command line: see :mod:`freerea_seval.cli.main`."""
