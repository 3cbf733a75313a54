"""The surrogate's kernel where scikit-learn takes one: an independent reference for posteriors."""

import numpy as np
from sklearn.gaussian_process.kernels import Kernel


class Wrapped(Kernel):
    """``Encoder.kernel`` with given hyper-parameters, for scikit-learn's Gaussian process."""

    def __init__(self, encoder=None, hyper=None):
        self.encoder, self.hyper = encoder, hyper

    def __call__(self, X, Y=None, eval_gradient=False):  # noqa: N803 - scikit-learn's names
        rows = [self.encoder.encode(np.asarray(Z).astype(int)) for Z in (X, X if Y is None else Y)]
        return self.encoder.kernel(*rows, self.hyper).astype(float)

    def diag(self, X):  # noqa: N803
        return np.ones(len(X))

    def is_stationary(self):
        return True
