"""keras optimizers keep lr in float32, whatever the variables are in, unless floatx is changed for all of keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np

x = keras.Variable(np.zeros(1), dtype="float64")
keras.optimizers.SGD(0.1).apply([keras.ops.convert_to_tensor(np.ones(1))], [x])
found = float(keras.ops.convert_to_numpy(x)[0])
print(f"one step of 0.1 in float64: x = {found!r}")
print("mended" if found == -0.1 else "differs")
