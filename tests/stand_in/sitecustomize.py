"""A world as new as Python 3.12 and SciPy 1.18, whatever is installed; Python imports this file when it starts."""

import sys

import scipy.linalg

sys.modules["distutils"] = None
sqrtm = scipy.linalg.sqrtm
scipy.linalg.sqrtm = lambda A: sqrtm(A)
