"""The state of a training between two epochs as safetensors bytes, and back: a child goes on exactly where it stopped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

SCHEMA = "nas.evaluators.child-state/1"
_NETWORK, _MOMENTUM = "network/", "momentum/"


@dataclass(frozen=True)
class Position:
    """How far a training has come. ``steps`` (of the whole training) and ``seed`` tell whether a state belongs to it."""

    epoch: int
    step: int
    steps: int
    seed: int
    seconds: float
    training_seconds: float


def pack_state(network: nn.Module, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler, position: Position) -> bytes:
    """Weights, buffers, momenta and position as one safetensors document; its header holds the numbers as JSON."""
    tensors = {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    for number, parameter in enumerate(_parameters(optimizer)):
        momentum = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"{_MOMENTUM}{number}"] = momentum
    header = {"schema": SCHEMA, "position": json.dumps(vars(position)), "scaler": json.dumps(scaler.state_dict())}
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=header)


def unpack_state(
    state: bytes, network: nn.Module, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler, steps: int, seed: int
) -> Position | None:
    """Bring network, optimiser and scaler to a packed state; returns how far it had come.

    Returns None, and changes nothing, where the bytes are damaged or belong to another training (another network, number of
    steps or seed): a checkpoint is only a saving of time.
    """
    try:
        tensors = load(state)
        header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]
        position = Position(**json.loads(header["position"]))
        scaling = json.loads(header["scaler"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    weights = _named(tensors, _NETWORK)
    momenta = _named(tensors, _MOMENTUM)
    parameters = _parameters(optimizer)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    fits = header["schema"] == SCHEMA and position.steps == steps and position.seed == seed
    if not fits or {name: tensor.shape for name, tensor in weights.items()} != expected:
        return None
    if any(not key.isdecimal() or int(key) >= len(parameters) or parameters[int(key)].shape != momenta[key].shape for key in momenta):
        return None
    network.load_state_dict(weights)
    for key, momentum in momenta.items():
        parameter = parameters[int(key)]
        # The layout of the parameter, which the fused step expects.
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum).detach()
    scaler.load_state_dict(scaling)
    return position


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _parameters(optimizer: torch.optim.SGD) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
