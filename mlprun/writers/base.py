"""What writers are given."""

from __future__ import annotations

from typing import Any

import numpy as np

Values = dict[str, float]
Pixels = np.ndarray[Any, Any]  # uint8 (H, W, 3)
Bins = np.ndarray[Any, Any]  # float64 (bins, 3)
