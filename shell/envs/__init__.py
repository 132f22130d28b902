"""Environments that hold something: data sets read from files."""
