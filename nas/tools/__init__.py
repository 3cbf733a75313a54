"""Small things that everything above uses and that know nothing of searches or trainings. No torch at import."""
