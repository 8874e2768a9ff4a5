"""Seeded noise that depends on nothing but its key: the same number on every machine and numpy version."""

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def noise(below: int, seed: int, purpose: str, *keys: "np.ndarray | int") -> np.ndarray:
    """Whole numbers from 0 to `below` - 1, one for each combination of the (broadcast) keys.

    splitmix64 over seed, purpose and keys: integers only, so that no library's or processor's idea of
    floating point or of a random stream can change a generated release.
    """
    state = _mix(np.array(seed % 2**64, np.uint64))
    for key in (int.from_bytes(purpose.encode()[:8]), *keys):
        state = _mix(state ^ np.asarray(key).astype(np.uint64))
    return (state % np.uint64(below)).astype(np.int64)


def _mix(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        state = state + _GAMMA
        state = (state ^ (state >> np.uint64(30))) * _MIX1
        state = (state ^ (state >> np.uint64(27))) * _MIX2
    return state ^ (state >> np.uint64(31))
