"""Parameters with several names: saved, averaged and hashed once."""

from __future__ import annotations

from typing import Any

from torch import nn


def save_tied_once(module: nn.Module) -> None:
    """Make the state dict of `module` hold each tied parameter once, by its first name.

    A state dict without the other names loads. An average of weights that goes through state dicts,
    as timm's does, would otherwise move a tied parameter once for each of its names.
    """
    first: dict[int, str] = {}
    names = ((name, id(p)) for name, p in module.named_parameters(remove_duplicate=False))
    module.tied = {name: first[key] for name, key in names if first.setdefault(key, name) != name}
    module.register_state_dict_post_hook(_leave_out)
    module.register_load_state_dict_pre_hook(_give)


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in module.tied:
        state.pop(prefix + name, None)


def _give(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, source in module.tied.items():
        if prefix + source in state:
            state.setdefault(prefix + name, state[prefix + source])
