from typing import Any

import numpy.typing as npt

def stream(target: npt.NDArray[Any], source: npt.NDArray[Any], /) -> None: ...
