"""Torch's functions, as modules call them, replaced for a while."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

Operation = Callable[..., Any]
"""One of torch's functions, or what takes its place."""


class Replacing(TorchFunctionMode):
    """While it is on, each function of a table gives way to another, which may call it: the table is off meanwhile."""

    def __init__(self, table: Mapping[Operation, Operation]) -> None:
        super().__init__()
        self._table = table

    def __torch_function__(
        self,
        func: Operation,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the one in its place, or the function itself; torch's protocol, torch.overrides."""
        return self._table.get(func, func)(*args, **(kwargs or {}))
