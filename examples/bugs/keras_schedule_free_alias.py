"""keras' ScheduleFreeAdamW on the torch backend: z from before the step is an alias of z after it, so y is wrong."""

import os

os.environ["KERAS_BACKEND"] = "torch"
import keras

y = keras.Variable([0.0])
method = keras.optimizers.ScheduleFreeAdamW(0.1, epsilon=0.0)
for _ in range(2):
    method.apply([keras.ops.convert_to_tensor([1.0])], [y])
found = float(y.numpy()[0])
print(f"z = -0.1, -0.2; x = -0.1, -0.15; y = 0.1 z + 0.9 x = {0.1 * -0.2 + 0.9 * -0.15:.4f}, keras has {found:.4f}")
print("mended" if abs(found + 0.155) < 1e-6 else "differs")
