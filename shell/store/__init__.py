"""Files: checkpoints and records, written whole or not at all."""
