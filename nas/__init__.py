"""The engine: evaluates, records, resumes, trains, exports, and talks to a person."""
