"""Trains one network: recipe, the only loop, scoring, checkpoints, and the folder of a training."""
