"""The policy: a distribution over action sequences, by default a one-layer LSTM that reads the actions taken so far.

Nothing here knows what the decisions mean. Sizes: N sequences, D decisions, K the largest number of choices of a decision.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from controllers.controller import random_for
from search_spaces.space import Decision, chances

State = tuple[Tensor, Tensor]
Outputs = tuple[Tensor, Tensor | None]


class Policy(nn.Module):
    """P(actions) = product over decisions of a softmax, each given the earlier actions (Zoph et al. 2018, section 3).

    The input of step d is the embedding of action d-1 (a learnt start vector at first). Every decision has its own output
    layer, added to one that all decisions with the same choices share, so that what holds everywhere is learnt once.
    Where these are zero, choices are as likely as the decisions' weights say.
    Where a decision has fewer than K choices the rest is masked. With ``recurrent=False`` the decisions are independent:
    logits alone, without inputs.
    """

    mask: Tensor
    favoured: Tensor
    offsets: Tensor
    kinds: Tensor

    def __init__(
        self,
        decisions: Sequence[Decision],
        *,
        hidden: int = 100,
        embedding: int = 32,
        recurrent: bool = True,
        init_scale: float = 0.1,
        head_init_scale: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = [len(decision.choices) for decision in decisions]
        names = list(dict.fromkeys(decision.choices for decision in decisions))
        self.hidden, self.recurrent = hidden, recurrent
        self.register_buffer("mask", torch.arange(max(sizes)) >= torch.tensor(sizes)[:, None], persistent=False)  # [D, K]
        favoured = torch.tensor(chances(decisions)).log().float() if any(d.weights for d in decisions) else torch.zeros(self.mask.shape)
        self.register_buffer("favoured", favoured, persistent=False)  # [D, K]
        self.register_buffer("offsets", torch.tensor([0, *sizes]).cumsum(0)[:-1] + 1, persistent=False)  # token of choice 0
        self.register_buffer("kinds", torch.tensor([names.index(d.choices) for d in decisions]), persistent=False)
        self.bias = nn.Parameter(torch.zeros(len(sizes), max(sizes)))
        self.kind_bias = nn.Parameter(torch.zeros(len(names), max(sizes)))
        if recurrent:
            self.embed = nn.Embedding(1 + sum(sizes), embedding)  # token 0 starts a sequence
            self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
            self.head = nn.Parameter(torch.zeros(len(sizes), hidden, max(sizes)))
            self.kind_head = nn.Parameter(torch.zeros(len(names), hidden, max(sizes)))
        heads = {"bias", "kind_bias", "head", "kind_head"}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                scale = head_init_scale if name in heads else init_scale
                parameter.uniform_(-scale, scale, generator=generator)

    def outputs(self) -> Outputs:
        """The output layers: biases [D, K] (-inf where masked) and, of a recurrent policy, weights [D, H, K]."""
        bias = (self.bias + self.kind_bias[self.kinds] + self.favoured).masked_fill(self.mask, -torch.inf)
        return bias, self.head + self.kind_head[self.kinds] if self.recurrent else None

    def advance(self, previous: Tensor, first: int, state: State | None, outputs: Outputs) -> tuple[Tensor, State | None]:
        """Log-probabilities of all choices at decisions ``first`` .. ``first + T - 1``.

        Args:
            previous: tokens [N, T] of the actions before each of these decisions.
            first: the first decision.
            state: what this function returned for the decisions before; None at decision 0.
            outputs: what ``outputs`` returned.

        Returns:
            Log-probabilities [T, N, K] (-inf where masked) and the state after the last decision.
        """
        count, steps = previous.shape
        bias, weight = outputs[0][first : first + steps, None], outputs[1]
        if weight is None:
            return bias.expand(-1, count, -1).log_softmax(-1), state
        output, state = self.lstm(self.embed(previous), state)  # [N, T, H]
        return torch.baddbmm(bias, output.transpose(0, 1), weight[first : first + steps]).log_softmax(-1), state

    def evaluate(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy [N, D] (in nats) of every decision along given action sequences [N, D]."""
        tokens = self.offsets + actions
        previous = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1]], dim=1)
        log_probs = self.advance(previous, 0, None, self.outputs())[0].transpose(0, 1)
        taken = log_probs.gather(-1, actions[..., None])[..., 0]
        entropy = -(log_probs.exp() * log_probs.masked_fill(self.mask, 0.0)).sum(-1)
        return taken, entropy

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, temperature: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        """Draw action sequences [N, D], with their log-probabilities [N, D] under the policy itself, at temperature 1.

        A temperature (one, or one a sequence [N, 1]) above 1 flattens every softmax before drawing.
        """
        noise = torch.empty(len(self.offsets), count, self.mask.shape[1]).exponential_(generator=generator).log_()
        noise *= -temperature
        outputs = self.outputs()
        previous, state = torch.zeros(count, 1, dtype=torch.long), None
        actions, log_probs = [], []
        for d, offset in enumerate(self.offsets.tolist()):
            step, state = self.advance(previous, d, state, outputs)
            action = (step[0] + noise[d]).argmax(-1, keepdim=True)  # Gumbel-max: a draw from softmax(log-probabilities / temperature)
            actions.append(action)
            log_probs.append(step[0])
            previous = action + offset
        drawn = torch.cat(actions, 1)
        return drawn, torch.stack(log_probs, 1).gather(-1, drawn[..., None])[..., 0]


def generator_for(seed: int, *labels: object) -> torch.Generator:
    """``random_for`` for torch."""
    return torch.Generator().manual_seed(random_for(seed, *labels).getrandbits(63))
