from typing import Any

import numpy.typing as npt

def compand(
    target: npt.NDArray[Any],
    source: npt.NDArray[Any],
    table: npt.NDArray[Any],
    height: int,
    width: int,
    samples: int,
    step: int,
    /,
) -> None: ...
def expand(
    target: npt.NDArray[Any],
    source: npt.NDArray[Any],
    table: npt.NDArray[Any],
    height: int,
    width: int,
    samples: int,
    step: int,
    /,
) -> None: ...
