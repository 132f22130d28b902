"""The shell: everything that holds or changes something. It only ever calls into armfold.core."""

if __name__ != "armfold.shell":
    raise ImportError(f"import this package as armfold.shell, not as {__name__}")
