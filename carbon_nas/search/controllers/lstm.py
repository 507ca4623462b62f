"""The policy network of `reinforce`. Imports torch: only for child processes."""

import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _Network(nn.Module):
    """Maps the choices made so far to the logits of the next decision."""

    offsets: Tensor

    def __init__(self, choices: Sequence[int], hidden_units: int) -> None:
        super().__init__()
        starts = torch.tensor([1, *choices[:-1]]).cumsum(0)
        self.register_buffer(
            "offsets", starts, persistent=False
        )  # each (decision, choice) is a token; 0 begins
        self.embedding = nn.Embedding(1 + sum(choices), hidden_units)
        self.lstm = nn.LSTM(hidden_units, hidden_units, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(hidden_units, count) for count in choices)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Give, for tokens of shape (n, t), the log-probabilities of decisions 1 to t, each (n, options)."""
        outputs, _ = self.lstm(self.embedding(tokens))
        heads = list(self.heads)[: tokens.shape[1]]
        return [head(outputs[:, i]).log_softmax(-1) for i, head in enumerate(heads)]

    def tokens(self, choices: Tensor) -> Tensor:
        """Give the input for choices of shape (n, t): the begin token and the first t choices, (n, t + 1)."""
        begin = choices.new_zeros(choices.shape[0], 1)
        return torch.cat([begin, choices + self.offsets[: choices.shape[1]]], dim=1)


class LstmPolicy:
    """A distribution over tuples of choices, and the gradient step on it.

    Its weights come from `seed`; torch's global generator is left as it was.
    """

    def __init__(
        self, choices: Sequence[int], *, hidden_units: int, learning_rate: float, entropy: float, seed: int
    ) -> None:
        self._decisions = len(choices)
        self._entropy = entropy
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = _Network(choices, hidden_units)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=learning_rate)

    @torch.no_grad()
    def sample(self, uniforms: Sequence[Sequence[float]]) -> list[tuple[int, ...]]:
        """Draw one tuple per row of `uniforms`, (n, decisions) in [0, 1), by inverting the distribution."""
        if not uniforms:
            return []
        draws = torch.tensor(uniforms, dtype=torch.float64).T.contiguous()  # (decisions, n)
        chosen = torch.empty(len(uniforms), 0, dtype=torch.long)
        for decision in range(self._decisions):
            steps = self._network(self._network.tokens(chosen))[-1].double().exp().cumsum(-1)
            picked = torch.searchsorted(steps, draws[decision].unsqueeze(1), right=True)
            chosen = torch.cat([chosen, picked.clamp(max=steps.shape[1] - 1)], dim=1)
        return [tuple(row) for row in chosen.tolist()]

    def update(self, choices: Sequence[Sequence[int]], advantages: Sequence[float]) -> None:
        """Step along mean(advantage x grad log pi + entropy x grad H); H sums the decisions' entropies in nats."""
        taken = torch.tensor(choices)
        logs = self._network(self._network.tokens(taken[:, :-1]))
        picked = [log.gather(1, taken[:, i : i + 1]) for i, log in enumerate(logs)]
        log_likelihood = torch.cat(picked, dim=1).sum(1)
        uncertainty = torch.stack([-(log.exp() * log).sum(1) for log in logs]).sum(0).mean()
        gain = (torch.tensor(advantages) * log_likelihood).mean() + self._entropy * uncertainty
        self._optimizer.zero_grad()
        (-gain).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def dump(self) -> bytes:
        """Give the weights and Adam's moments as bytes."""
        buffer = io.BytesIO()
        torch.save({"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}, buffer)
        return buffer.getvalue()

    def load(self, data: bytes) -> None:
        """Undo `dump`; `data` cannot run code (`weights_only`)."""
        saved = torch.load(io.BytesIO(data), weights_only=True)
        self._network.load_state_dict(saved["network"])
        self._optimizer.load_state_dict(saved["optimizer"])
