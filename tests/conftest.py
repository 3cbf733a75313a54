"""One CPU thread for each test process: small networks are slower on more, and tests run side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray's workers yield to everything else by default: on a busy machine they would not get up before a test loses patience.
os.environ.setdefault("RAY_worker_niceness", "0")
