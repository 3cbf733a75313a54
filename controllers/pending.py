"""The proposals being trained, kept current one by one: to ask costs the same with five of them and with five thousand. No torch."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

from controllers.controller import Proposal
from search_spaces.space import Actions

Feature = Callable[[Proposal], Hashable]
"""What proposals are looked up by: a pure function of one."""


class Pending(Sequence[Proposal]):
    """Proposals in the order of asking, each with a trial's number of its own.

    Controllers may take it for any sequence. Those that look something up at every proposal use ``counts`` and ``last``, which do not
    walk over what is pending, and remember what they derived from it while ``changes`` is the same.
    """

    def __init__(self, proposals: Iterable[Proposal] = ()) -> None:
        self.changes = 0
        """Grows whenever what is pending changes."""
        self._proposals: dict[int, Proposal] = {}
        self._counts: dict[Feature, tuple[Counter[Hashable], dict[int, Hashable]]] = {}
        for proposal in proposals:
            self.add(proposal)

    @classmethod
    def of(cls, proposals: Sequence[Proposal]) -> "Pending":
        """The proposals themselves where they are kept in this way, else made of a walk over them."""
        return proposals if isinstance(proposals, cls) else cls(proposals)

    def add(self, proposal: Proposal) -> None:
        """A trial is being trained from now on."""
        self.discard(proposal.trial)
        self._proposals[proposal.trial] = proposal
        self.changes += 1
        for feature, (counts, values) in self._counts.items():
            values[proposal.trial] = feature(proposal)
            counts[values[proposal.trial]] += 1

    def discard(self, trial: int) -> None:
        """A trial is no longer being trained; nothing changes where it was not."""
        if self._proposals.pop(trial, None) is None:
            return
        self.changes += 1
        for counts, values in self._counts.values():
            value = values.pop(trial)
            counts[value] -= 1
            if not counts[value]:
                del counts[value]

    def counts(self, feature: Feature) -> Counter[Hashable]:
        """How many proposals have each value of a feature; not to be changed. The first look-up walks over all of them."""
        if feature not in self._counts:
            values = {trial: feature(proposal) for trial, proposal in self._proposals.items()}
            self._counts[feature] = Counter(values.values()), values
        return self._counts[feature][0]

    def last(self, count: int) -> list[Proposal]:
        """The ``count`` proposals asked last, or all where there are fewer, in the order of asking."""
        return list(islice(reversed(self._proposals.values()), count))[::-1]

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: what is derived stays here, since the functions that it is looked up by need not be able to travel."""
        return {**self.__dict__, "_counts": {}}

    def __len__(self) -> int:
        return len(self._proposals)

    def __iter__(self) -> Iterator[Proposal]:
        return iter(self._proposals.values())

    @overload
    def __getitem__(self, index: int) -> Proposal: ...
    @overload
    def __getitem__(self, index: slice) -> list[Proposal]: ...
    def __getitem__(self, index: int | slice) -> Proposal | list[Proposal]:
        return list(self._proposals.values())[index]


def actions_of(proposal: Proposal) -> Actions:
    """The feature by which controllers see whether a sequence of actions is being trained."""
    return proposal.actions
