"""An example of a package that extends the engine: see its README."""
