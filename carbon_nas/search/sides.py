"""The size of the images that a space's networks are for, where the space knows it.

A space may have either of two attributes: `side`, its option of that name, the height and width of the only images that
its networks are made for; and `side_multiple`, a number that the sides of its images must be divisible by.
"""

from carbon_nas.errors import ConfigurationError
from carbon_nas.interfaces import SearchSpace

USUAL_SIDE = 32
"""Of images, where neither data nor the space tell: that of CIFAR-10's."""


def side_of(space: SearchSpace) -> int:
    """Give the side of the images that the networks are for, or `USUAL_SIDE`."""
    return int(getattr(space, "side", USUAL_SIDE))


def require_side(space: SearchSpace, side: int, *, images: str, key: str) -> None:
    """Check that images of `side` x `side` are such as the networks of `space` are for; `images` says whose they are.

    Raises:
        ConfigurationError: they are not.
    """
    wanted, multiple = getattr(space, "side", side), getattr(space, "side_multiple", 1)
    if side != wanted:
        raise ConfigurationError(
            f"the networks are made for images of {wanted}x{wanted}, and {images} are {side}x{side}: set the space's"
            f" option side to {side}",
            key=key,
        )
    if side % multiple:
        raise ConfigurationError(
            f"the networks take images of sides divisible by {multiple}, and {images} are {side}x{side}: resize them,"
            " or choose another space",
            key=key,
        )
