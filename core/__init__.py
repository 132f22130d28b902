"""The pure core: stateless functions over explicit state tuples. Imports torch and the standard library only."""

if __name__ != "armfold.core":
    raise ImportError(f"import this package as armfold.core, not as {__name__}")
