"""The NASNet search spaces (Zoph et al. 2018, arXiv 1707.07012, section 3). No torch."""

from search_spaces.space import CellSpace
from search_spaces.vocabulary import NASNET_OPERATIONS, NASNET_PAPER_OPERATIONS

NASNET = CellSpace("nasnet", operations=NASNET_OPERATIONS)
"""14 operations (the paper's 13 and 5×5 average pooling), 5 nodes, add or concat: 50 decisions, 2.30e37 action sequences."""

NASNET_PAPER = CellSpace("nasnet-paper", operations=NASNET_PAPER_OPERATIONS)
"""The paper's 13 operations: 50 decisions, 5.23e36 action sequences."""
