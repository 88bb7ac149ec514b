// Holds an Adam in JavaScript against its golden file:  node adam.mjs golden/methods/adam-torch.json
import { readFileSync } from "node:fs";

const { hyper: { lr, beta1, beta2, eps }, streams } = JSON.parse(readFileSync(process.argv[2], "utf8"));
let worst = 0;
for (const { x0, gradients, x: golden, lr: rates } of Object.values(streams)) {
  const x = [...x0], m = x.map(() => 0), v = x.map(() => 0), size = x.map(Math.abs);
  gradients.forEach((g, k) => {
    for (let i = 0; i < x.length; i++) {
      m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
      const mHat = m[i] / (1 - beta1 ** (k + 1)), vHat = v[i] / (1 - beta2 ** (k + 1));
      x[i] -= ((rates ? rates[k] : lr) * mHat) / (Math.sqrt(vHat) + eps);
      size[i] = Math.max(size[i], Math.abs(golden[k][i]));
      worst = Math.max(worst, Math.abs(x[i] - golden[k][i]) / (size[i] || 1));
    }
  });
}
console.log(`largest relative difference ${worst.toExponential(1)}`);
process.exit(worst < 1e-12 ? 0 : 1);
