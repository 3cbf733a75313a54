"""Images: one table of data sets, one split, one preparation, one source of batches. ``prepare`` is the way in."""

from nas.data.prepared import PreparedData, prepare
from nas.data.settings import DataSettings, Preparation

__all__ = ["DataSettings", "Preparation", "PreparedData", "prepare"]
