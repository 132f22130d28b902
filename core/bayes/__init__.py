"""Bayesian posteriors as state tuples."""
