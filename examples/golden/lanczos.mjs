// Holds a Lanczos in JavaScript against a golden file:  node lanczos.mjs golden/curvature/quadratic.json
import { readFileSync } from "node:fs";

const { hessian: { matrix }, lanczos: { v0, alpha, beta } } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const dot = (a, b) => a.reduce((sum, ai, i) => sum + ai * b[i], 0);
const minus = (a, c, b) => a.map((ai, i) => ai - c * b[i]);
let r = v0, worst = 0;
const Q = [];
alpha.forEach((golden, j) => {
  const norm = Math.sqrt(dot(r, r)), q = r.map((ri) => ri / norm);
  Q.push(q);
  r = matrix.map((row) => dot(row, q));
  const a = dot(q, r);
  for (let pass = 0; pass < 2; pass++) for (const p of Q) r = minus(r, dot(p, r), p);
  const unit = Math.max(...alpha.map(Math.abs));
  worst = Math.max(worst, Math.abs(a - golden) / unit, Math.abs(Math.sqrt(dot(r, r)) - beta[j]) / unit);
});
console.log(`largest relative difference ${worst.toExponential(1)}`);
process.exit(worst < 1e-10 ? 0 : 1);
