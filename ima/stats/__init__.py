"""Intervals, resampling, rank correlations, permutation tests and multiplicity; types of arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
#: Indices of rows, for example of samples or tokens.
RowIndices = npt.NDArray[np.int64]
