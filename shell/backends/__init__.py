"""Machines that environments run on."""
