// The methods' paths on functions of two variables, run in the browser. The rules and their letters are those of
// refopt's own files, at their default settings, and the noise is of its own stream; tests/test_explorer.py holds the
// paths to refopt's.
"use strict";

const Explorer = (() => {
  const EPS = 2 ** -52;
  const plus = (x, a, p) => [x[0] + a * p[0], x[1] + a * p[1]];
  const times = (a, x) => [a * x[0], a * x[1]];
  const minus = (x, y) => [x[0] - y[0], x[1] - y[1]];
  const dot = (x, y) => x[0] * y[0] + x[1] * y[1];
  const norm = (x) => Math.hypot(x[0], x[1]);
  const each = (f, ...vectors) => [f(...vectors.map((v) => v[0])), f(...vectors.map((v) => v[1]))];
  const product = (H, v) => [H[0] * v[0] + H[1] * v[1], H[1] * v[0] + H[2] * v[1]]; // H = [xx, xy, yy]

  // ------------------------------------------------------------------------------------------------ functions
  // `lr` is a setting that suits the function, for those methods that need one; `noise` is the most to be tried.

  const functions = {
    quadratic: {
      title: "Quadratic, condition number 10",
      formula: "f = (11 x² + 18 x y + 11 y²) / 4",
      view: [-2.4, 2.4, -2.4, 2.4],
      start: [-2, 0.6],
      minima: [[0, 0]],
      noise: 2,
      lr: { sgd: 0.15, heavy_ball: 0.1, nesterov: 0.1, adam: 0.2, rmsprop: 0.1, parabola: 0.05 },
      value: ([x, y]) => (11 * x * x + 18 * x * y + 11 * y * y) / 4,
      grad: ([x, y]) => [(11 * x + 9 * y) / 2, (9 * x + 11 * y) / 2],
      hessian: () => [5.5, 4.5, 5.5],
    },
    saddle: {
      title: "Saddle between two wells",
      formula: "f = x⁴/4 − x²/2 + y²/2",
      view: [-1.8, 1.8, -1.8, 1.8],
      start: [0.02, 1.4],
      minima: [[-1, 0], [1, 0]],
      saddles: [[0, 0]],
      noise: 0.5,
      lr: { sgd: 0.2, heavy_ball: 0.1, nesterov: 0.1, adam: 0.1, rmsprop: 0.05, parabola: 0.1 },
      value: ([x, y]) => x ** 4 / 4 - (x * x) / 2 + (y * y) / 2,
      grad: ([x, y]) => [x * x * x - x, y],
      hessian: ([x]) => [3 * x * x - 1, 0, 1],
    },
    monkey_saddle: {
      title: "Monkey saddle: the Hessian is 0",
      formula: "f = (x³ − 3 x y²)/3 + (x² + y²)²/4",
      view: [-1.5, 1.5, -1.5, 1.5],
      start: [0.8, 0.05],
      minima: [[-1, 0], [0.5, Math.sqrt(0.75)], [0.5, -Math.sqrt(0.75)]],
      saddles: [[0, 0]],
      noise: 0.5,
      lr: { sgd: 0.2, heavy_ball: 0.1, nesterov: 0.1, adam: 0.1, rmsprop: 0.05, parabola: 0.1 },
      value: ([x, y]) => (x * (x * x - 3 * y * y)) / 3 + (x * x + y * y) ** 2 / 4,
      grad: ([x, y]) => [x * x - y * y + x * (x * x + y * y), -2 * x * y + y * (x * x + y * y)],
      hessian: ([x, y]) => [2 * x + 3 * x * x + y * y, -2 * y + 2 * x * y, -2 * x + x * x + 3 * y * y],
    },
    rosenbrock: {
      title: "Rosenbrock's valley",
      formula: "f = 100 (y − x²)² + (1 − x)²",
      view: [-1.7, 1.7, -0.8, 2.2],
      start: [-1.2, 1],
      minima: [[1, 1]],
      noise: 20,
      lr: { sgd: 0.0015, heavy_ball: 0.001, nesterov: 0.001, adam: 0.1, rmsprop: 0.02, parabola: 0.0005 },
      value: ([x, y]) => 100 * (y - x * x) * (y - x * x) + (1 - x) * (1 - x),
      grad: ([x, y]) => [-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)],
      hessian: ([x, y]) => [1200 * x * x - 400 * y + 2, -400 * x, 200],
    },
    himmelblau: {
      title: "Himmelblau: four minima, four saddles",
      formula: "f = (x² + y − 11)² + (x + y² − 7)²",
      view: [-5.2, 5.2, -5.2, 5.2],
      start: [-0.4, -0.6],
      minima: [[3, 2], [3.584428, -1.848127], [-2.805118, 3.131313], [-3.77931, -3.283186]],
      saddles: [[3.385154, 0.073852], [0.086678, 2.884255], [-3.073026, -0.081353], [-0.127961, -1.953715]],
      noise: 20,
      lr: { sgd: 0.01, heavy_ball: 0.003, nesterov: 0.003, adam: 0.3, rmsprop: 0.1, parabola: 0.005 },
      value: ([x, y]) => (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2,
      grad: ([x, y]) => [
        4 * x * (x * x + y - 11) + 2 * (x + y * y - 7),
        2 * (x * x + y - 11) + 4 * y * (x + y * y - 7),
      ],
      hessian: ([x, y]) => [12 * x * x + 4 * y - 42, 4 * x + 4 * y, 4 * x + 12 * y * y - 26],
    },
  };

  // -------------------------------------------------------------------------------------------------- methods
  // `rule(hyper)` returns step(f, x) -> the next x, or null where the method ends; what it remembers is in its closure.
  // `knobs` are name: [least, default, most]; those called lr or starting with "1 -" have a logarithmic slider.

  const LR = [1e-4, 0.01, 1];

  const methods = {
    sgd: {
      title: "gradient descent",
      knobs: { lr: LR },
      rule: ({ lr }) => (f, x) => plus(x, -lr, f.grad(x)),
    },
    heavy_ball: {
      title: "momentum (heavy ball)",
      knobs: { lr: LR, momentum: [0, 0.9, 0.99] },
      rule({ lr, momentum }) {
        let v = [0, 0];
        return (f, x) => {
          v = plus(f.grad(x), momentum, v);
          return plus(x, -lr, v);
        };
      },
    },
    nesterov: {
      title: "Nesterov",
      knobs: { lr: LR, momentum: [0, 0.9, 0.99] },
      rule({ lr, momentum }) {
        let v = [0, 0];
        return (f, x) => {
          v = plus(f.grad(plus(x, -lr * momentum, v)), momentum, v);
          return plus(x, -lr, v);
        };
      },
    },
    rmsprop: {
      title: "RMSprop",
      knobs: { lr: LR, rho: [0, 0.9, 0.99] },
      rule({ lr, rho }) {
        let v = [0, 0];
        return (f, x) => {
          const g = f.grad(x);
          v = each((v, g) => rho * v + (1 - rho) * g * g, v, g);
          return each((x, v, g) => x - (lr * g) / (Math.sqrt(v) + 1e-8), x, v, g);
        };
      },
    },
    adam: {
      title: "Adam",
      knobs: { lr: LR, beta1: [0, 0.9, 0.99], beta2: [0, 0.999, 0.9999] },
      rule({ lr, beta1, beta2 }) {
        let [m, v, t] = [[0, 0], [0, 0], 0];
        return (f, x) => {
          const g = f.grad(x);
          t += 1;
          m = each((m, g) => beta1 * m + (1 - beta1) * g, m, g);
          v = each((v, g) => beta2 * v + (1 - beta2) * g * g, v, g);
          const root = Math.sqrt(1 - beta2 ** t);
          const alpha = (lr * root) / (1 - beta1 ** t);
          return each((x, m, v) => x - (alpha * m) / (Math.sqrt(v) + 1e-8 * root), x, m, v);
        };
      },
    },
    parabola: {
      title: "parabola (gradient regression)",
      knobs: { lr: LR, alpha: [0.1, 1, 1], beta: [0.05, 0.3, 1], gamma: [0.05, 0.1, 1], cut: [0.01, 1, 100] },
      rule({ lr, alpha, beta, gamma, cut }) {
        let m, mx, mg;
        let [dxx, dgx] = [0, 0];
        return (f, x) => {
          const g = f.grad(x);
          if (!m) [m, mx, mg] = [g, x, g];
          m = plus(m, gamma, minus(g, m));
          if (norm(m) === 0) return x;
          const v = times(1 / norm(m), m);
          mx = plus(mx, beta, minus(x, mx));
          mg = plus(mg, beta, minus(g, mg));
          const [dx, dg] = [dot(v, minus(x, mx)), dot(v, minus(g, mg))];
          dxx += beta * (dx * dx - dxx);
          dgx += beta * (dg * dx - dgx);
          const lam = dxx > 0 ? dgx / dxx : 0;
          const slope = dot(v, mg) + lam * dx;
          const across = plus(g, -dot(v, g), v);
          return plus(plus(x, (-alpha * slope) / Math.max(Math.abs(lam), cut), v), -lr, across);
        };
      },
    },
    bfgs: {
      title: "BFGS",
      knobs: { c2: [0.1, 0.9, 0.99] },
      rule({ c2 }) {
        let H = null;
        let fell = 0;
        return (f, x) => {
          const g = f.grad(x);
          if (norm(g) === 0) return null;
          const p = times(-1, H ? product(H, g) : g);
          let alpha = H ? 1 : Math.min(1, 1 / norm(g));
          if (H && fell > 0) alpha = Math.min(1, (2.02 * fell) / Math.abs(dot(g, p)));
          const found = strongWolfe(f, x, p, alpha, c2);
          if (found.failed && !(found.phi < f.value(x))) {
            if (!H) return null;
            H = null;
            fell = 0;
            return x;
          }
          const [s, y] = [minus(found.x, x), minus(found.g, g)];
          if (dot(s, y) > EPS * norm(s) * norm(y)) {
            const raised = H ? 1 : Math.max(1, dot(s, y) / dot(y, y));
            H = H || [raised, 0, raised];
            const rho = 1 / dot(s, y);
            const Hy = product(H, y);
            const w = times(rho, plus(times(0.5 * (1 + rho * dot(y, Hy)), s), -1, Hy));
            H = [H[0] + 2 * s[0] * w[0], H[1] + s[0] * w[1] + w[0] * s[1], H[2] + 2 * s[1] * w[1]];
          }
          fell = f.value(x) - found.phi;
          return found.x;
        };
      },
    },
    newton: {
      title: "Newton",
      knobs: { beta: [1e-6, 1e-3, 1] },
      rule: ({ beta }) => (f, x) => {
        const g = f.grad(x);
        if (norm(g) === 0) return null;
        const [a, b, c] = f.hessian(x);
        const shift = beta * Math.hypot(a, b, b, c) || beta;
        let tau = Math.min(a, c) > 0 ? 0 : shift - Math.min(a, c);
        const definite = () => a + tau > 0 && c + tau - (b / Math.sqrt(a + tau)) ** 2 > 0;
        while (!definite()) tau = Math.max(2 * tau, shift);
        const det = (a + tau) * (c + tau) - b * b;
        const p = [(b * g[1] - (c + tau) * g[0]) / det, (b * g[0] - (a + tau) * g[1]) / det];
        return armijo(f, x, p, g);
      },
    },
    saddle_free: {
      title: "saddle-free Newton",
      knobs: {},
      rule: () => (f, x) => {
        const g = f.grad(x);
        if (norm(g) === 0) return null;
        const { theta, Q } = eigh(f.hessian(x));
        const coefficients = Q.map((q) => dot(q, g));
        const largest = Math.max(...theta.map(Math.abs));
        const bound = f.value(x) + EPS * Math.abs(f.value(x));
        const trial = (damping) => {
          const lam = Math.max(damping, EPS) * largest || 1;
          const [u, w] = theta.map((t, i) => coefficients[i] / (Math.abs(t) + lam));
          const point = plus(plus(x, -u, Q[0]), -w, Q[1]);
          const phi = f.value(point);
          return { damping, point, phi: Number.isNaN(phi) ? Infinity : phi };
        };
        let best = [0, 1e-4, 1e-3, 1e-2, 1e-1, 1].map(trial).reduce((a, b) => (b.phi < a.phi ? b : a));
        while (best.phi > bound && best.damping < 1e20) best = trial(10 * Math.max(best.damping, 1e-3));
        return best.phi > bound ? null : best.point;
      },
    },
  };

  function eigh([a, b, c]) {
    // Eigenvalues in ascending order; the rows of Q are the eigenvectors. A Jacobi rotation takes b to 0.
    const angle = 0.5 * Math.atan2(2 * b, a - c);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const along = a * cos * cos + 2 * b * cos * sin + c * sin * sin;
    const across = a * sin * sin - 2 * b * cos * sin + c * cos * cos;
    const pairs = [[along, [cos, sin]], [across, [-sin, cos]]].sort((s, t) => s[0] - t[0]);
    return { theta: pairs.map((pair) => pair[0]), Q: pairs.map((pair) => pair[1]) };
  }

  function armijo(f, x, p, g) {
    const [phi0, slope0] = [f.value(x), dot(g, p)];
    if (!(slope0 < 0)) return null;
    let best = { point: x, phi: phi0 };
    for (let i = 0, a = 1; i < 30; i++, a /= 2) {
      const point = plus(x, a, p);
      const phi = f.value(point);
      if (phi <= phi0 + 1e-4 * a * slope0 + EPS * Math.abs(phi0)) return point;
      if (phi < best.phi) best = { point, phi };
    }
    return best.phi < phi0 ? best.point : null;
  }

  function strongWolfe(f, start, p, first, c2, c1 = 1e-4) {
    const attempt = (a) => {
      const x = plus(start, a, p);
      const g = f.grad(x);
      return { a, x, g, phi: f.value(x), slope: dot(g, p) };
    };
    const { phi: phi0, slope: slope0 } = attempt(0);
    const noise = 10 * EPS * Math.abs(phi0);
    const decreases = (t) =>
      t.phi <= phi0 + c1 * t.a * slope0 || (Math.abs(t.phi - phi0) <= noise && t.slope <= (2 * c1 - 1) * slope0);
    const clip = (t, low, high) => (t > low ? Math.min(t, high) : low);
    let [lo, hi, a, width] = [attempt(0), null, first, Infinity];
    if (!(slope0 < 0)) return { ...lo, failed: true };
    for (let i = 0; i < 20; i++) {
      const trial = attempt(a);
      const finite = Number.isFinite(trial.phi) && Number.isFinite(trial.slope);
      if (!(finite && decreases(trial) && trial.phi <= lo.phi + noise)) {
        hi = trial;
      } else if (Math.abs(trial.slope) <= -c2 * slope0) {
        return trial;
      } else if (!hi && trial.slope < 0) {
        const span = trial.a - lo.a;
        const ahead = (cubic(lo, trial) - trial.a) / span;
        a = trial.a + span * (ahead > 0 ? clip(ahead, 1.1, 4) : 4);
        lo = trial;
        continue;
      } else {
        if (!hi || trial.slope * (hi.a - lo.a) >= 0) hi = lo;
        lo = trial;
      }
      const span = hi.a - lo.a;
      const inner = Math.abs(span) > 0.66 * width ? 0.5 : clip((cubic(lo, hi) - lo.a) / span, 0.1, 0.9);
      a = lo.a + inner * span;
      if (a === lo.a || a === hi.a) break;
      width = Math.abs(span);
    }
    return { ...lo, failed: true };
  }

  function cubic(s, t) {
    const d1 = s.slope + t.slope - (3 * (s.phi - t.phi)) / (s.a - t.a);
    const discriminant = d1 * d1 - s.slope * t.slope;
    if (!(discriminant >= 0 && discriminant < Infinity)) return NaN;
    const d2 = Math.sqrt(discriminant) * Math.sign(t.a - s.a);
    const denominator = t.slope - s.slope + 2 * d2;
    return denominator === 0 ? NaN : t.a - ((t.a - s.a) * (t.slope + d2 - d1)) / denominator;
  }

  // ---------------------------------------------------------------------------------------------------- noise
  // Step k sees f(x) + <xi, x>, so the same xi in all its gradients, whose components have the standard deviation `sd`:
  //
  //     u = uniform(2, seed, k, "explorer")        backends.random: Philox4x64-10, key (seed, tag), counter (1, 0, 0, k)
  //     xi = sd sqrt(-2 ln(1 - u_1)) (cos 2 pi u_2, sin 2 pi u_2)                                    (Box, Muller 1958)

  const TAG = 0x74ffad5badd081a4n; // BLAKE2b of "explorer", 64 bits
  const [M0, M1] = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
  const [W0, W1] = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

  function philox(counter, key) {
    let [a, b, c, d] = counter;
    let [k0, k1] = key;
    for (let round = 0; round < 10; round++) {
      const [p, q] = [M0 * a, M1 * c];
      [a, b, c, d] = [(q >> 64n) ^ b ^ k0, BigInt.asUintN(64, q), (p >> 64n) ^ d ^ k1, BigInt.asUintN(64, p)];
      [k0, k1] = [BigInt.asUintN(64, k0 + W0), BigInt.asUintN(64, k1 + W1)];
    }
    return [a, b, c, d];
  }

  function normal(seed, k) {
    const words = philox([1n, 0n, 0n, BigInt(k)], [BigInt(seed), TAG]);
    const [u1, u2] = words.map((word) => Number(word >> 11n) * 2 ** -53);
    return times(Math.sqrt(-2 * Math.log(1 - u1)), [Math.cos(2 * Math.PI * u2), Math.sin(2 * Math.PI * u2)]);
  }

  const tilted = (f, xi) => ({
    value: (x) => f.value(x) + dot(xi, x),
    grad: (x) => plus(f.grad(x), 1, xi),
    hessian: f.hessian,
  });

  function defaults(method, name) {
    const hyper = Object.fromEntries(Object.entries(methods[method].knobs).map(([knob, [, at]]) => [knob, at]));
    return "lr" in hyper ? { ...hyper, lr: functions[name].lr[method] } : hyper;
  }

  // Return the points of a run, the start first. It ends early where |g| <= 1e-7 without noise, where the method says
  // so, or where it has left for infinity.
  function run(name, method, hyper, start, steps, { sd = 0, seed = 0 } = {}) {
    const f = functions[name];
    const step = methods[method].rule(hyper);
    const path = [start];
    while (path.length <= steps && (sd || norm(f.grad(path.at(-1))) > 1e-7)) {
      const seen = sd ? tilted(f, times(sd, normal(seed, path.length - 1))) : f;
      const x = step(seen, path.at(-1));
      if (x === null || !(norm(x) < 1e6)) break;
      path.push(x);
    }
    return path;
  }

  return { functions, methods, defaults, run, norm };
})();
