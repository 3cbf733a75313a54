"""Building blocks of standalone files: real modules here, copied as text into an export, each only where it is used."""
