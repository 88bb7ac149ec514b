/* Holds an Adam in C against its golden file:  cc adam.c -lm -o adam && ./adam golden/methods/adam-torch.json */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char text[1 << 22];
static double G[4096], X[4096], x[64], m[64], v[64], size[64];

/* Reads the numbers of the list that follows `key`, behind `from`, into `out`; returns how many. The keys are sorted. */
static int numbers(const char *from, const char *key, double *out) {
  int count = 0, depth = 0;
  char *p = strchr(strstr(from, key), '[');
  do {
    if (*p == '[' || *p == ']') depth += *p++ == '[' ? 1 : -1;
    else if (*p == ',') p++;
    else out[count++] = strtod(p, &p);
  } while (depth);
  return count;
}

static double number(const char *key) { return strtod(strchr(strstr(text, key), ':') + 1, NULL); }

int main(int argc, char **argv) {
  FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
  if (!file || !fread(text, 1, sizeof text - 1, file)) return 2;
  double lr = number("\"lr\""), b1 = number("\"beta1\""), b2 = number("\"beta2\""), eps = number("\"eps\""), worst = 0;
  const char *stream = strstr(text, "\"scales\"");
  int n = numbers(stream, "\"x0\"", x), steps = numbers(stream, "\"gradients\"", G) / n;
  numbers(stream, "\"x\"", X);
  for (int k = 0; k < steps; k++)
    for (int i = 0; i < n; i++) {
      double g = G[k * n + i], golden = X[k * n + i];
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      x[i] -= lr * (m[i] / (1 - pow(b1, k + 1))) / (sqrt(v[i] / (1 - pow(b2, k + 1))) + eps);
      size[i] = fmax(size[i], fabs(golden));
      worst = fmax(worst, fabs(x[i] - golden) / (size[i] ? size[i] : 1));
    }
  printf("largest relative difference %.1e\n", worst);
  return worst < 1e-12 ? 0 : 1;
}
