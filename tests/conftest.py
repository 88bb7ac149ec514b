"""What every test file shares: the array libraries, and Ctrl-C where a shell has it ignored."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from backends.arrays import asnumpy, get_backend

# The same examples at every run, so that what fails is what changed; `HYPOTHESIS_PROFILE=explore` draws new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored; what the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Backend:
    """One array library to test on: `array` makes its arrays, `numpy` brings them back."""

    name: str
    device: Any = None

    def array(self, values: Any, dtype: str = "float64") -> Any:
        host = np.array(values, dtype=dtype)
        if self.name == "numpy":
            return host
        if self.name == "numpy-readonly":
            host.flags.writeable = False
            return host
        return get_backend(self.name).asarray(host, device=self.device)

    @staticmethod
    def numpy(x: Any) -> np.ndarray[Any, Any]:
        return asnumpy(x)


def _strict() -> Backend:
    import array_api_strict

    # Its second device refuses silent conversion to NumPy, as a GPU does.
    return Backend("array_api_strict", array_api_strict.Device("device1"))


@pytest.fixture(params=["numpy", "numpy-readonly", "array_api_strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Run on NumPy, on read-only NumPy (purity), on a strict second device, and on CuPy by `-m gpu`."""
    if request.param == "array_api_strict":
        return _strict()
    if request.param == "cupy":
        try:
            get_backend("cupy")
        except RuntimeError as error:
            pytest.skip(str(error))
    return Backend(request.param)
