"""Whose turn it is in a process where several networks are trained at once, each in a thread of its own. No torch."""

import threading

TURN = threading.RLock()
"""Held from the seeding of PyTorch's generators, which are the process's, until all that draws from them has been given to the device.

Also while a CUDA graph is recorded, when nobody else may draw. A GPU computes on meanwhile: only the giving takes turns.
"""
