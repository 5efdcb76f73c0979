"use strict";

// Computes networks from lists of operations, as mnist_hpo/spec/operations.py describes them. Numbers are stored as
// float32; sums are computed in the double precision of JavaScript.
//
// An image or a vector is {values: Float32Array, height, width, channels}, row by row; a vector has only channels.

// The arrays of all networks: {index: {name: [dtype, shape, offset in bytes]}, base64}, in little-endian order.
class Arrays {
  #index;
  #bytes;

  constructor({ index, base64 }) {
    const text = atob(base64);
    this.#index = index;
    this.#bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) this.#bytes[i] = text.charCodeAt(i);
  }

  // Return {shape, values: Float32Array}. An array in 8 bits has a scale for each column; one in bfloat16 is stored as
  // the upper halves of float32 numbers.
  get(name) {
    const bf16 = this.#read(`${name}:bf16`);
    if (bf16) return { shape: bf16.shape, values: new Float32Array(Uint32Array.from(bf16.values, (bits) => bits << 16).buffer) };
    const { shape, values } = this.#read(name), scale = this.#read(`${name}:scale`)?.values;
    return { shape, values: scale ? Float32Array.from(values, (value, i) => value * scale[i % scale.length]) : values };
  }

  #read(name) {
    if (!(name in this.#index)) return null;
    const [dtype, shape, offset] = this.#index[name];
    const Type = { int8: Int8Array, uint16: Uint16Array, float32: Float32Array }[dtype];
    const n = shape.reduce((product, length) => product * length, 1);
    return { shape, values: new Type(this.#bytes.buffer.slice(offset, offset + n * Type.BYTES_PER_ELEMENT)) };
  }
}

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  silu: (x) => x / (1 + Math.exp(-x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
};

// Each takes the value so far, the operation's arrays, and its other values.
const OPERATIONS = {
  dense({ values }, { kernel, bias }) {
    const n = kernel.shape[1], sums = sumsFrom(bias, n), weights = kernel.values;
    for (let i = 0, row = 0; i < values.length; i++, row += n) {
      const value = values[i];
      if (value === 0) continue;
      for (let o = 0; o < n; o++) sums[o] += value * weights[row + o];
    }
    return vector(Float32Array.from(sums));
  },

  convolution({ values, height, width, channels }, { kernel, bias }) {
    const [rows, columns, , n] = kernel.shape, weights = kernel.values, start = sumsFrom(bias, n);
    const top = (rows - 1) >> 1, left = (columns - 1) >> 1;
    const result = new Float32Array(height * width * n), sums = new Float64Array(n);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        sums.set(start);
        for (let v = Math.max(0, top - y); v < Math.min(rows, height + top - y); v++) {
          for (let u = Math.max(0, left - x); u < Math.min(columns, width + left - x); u++) {
            const pixel = ((y + v - top) * width + x + u - left) * channels, taps = (v * columns + u) * channels;
            for (let c = 0; c < channels; c++) {
              const value = values[pixel + c];
              if (value === 0) continue;
              const row = (taps + c) * n;
              for (let o = 0; o < n; o++) sums[o] += value * weights[row + o];
            }
          }
        }
        result.set(sums, (y * width + x) * n);
      }
    }
    return { values: result, height, width, channels: n };
  },

  scale_and_shift(x, { scale, shift }) {
    return changed(x, (value, i) => value * scale.values[i % x.channels] + shift.values[i % x.channels]);
  },

  layer_norm(x, { scale, bias }, { epsilon }) {
    const mean = total(x.values) / x.values.length;
    const variance = total(x.values.map((value) => (value - mean) ** 2)) / x.values.length;
    const factor = 1 / Math.sqrt(variance + epsilon);
    return changed(x, (value, i) => (value - mean) * factor * scale.values[i] + bias.values[i]);
  },

  activation: (x, _, options) => changed(x, ACTIVATIONS[options.function]),
  max_pool: (x) => pooled(x, Math.max),
  average_pool: (x) => pooled(x, (a, b, c, d) => (a + b + c + d) / 4),

  mean({ values, channels }) {
    const sums = new Float64Array(channels);
    for (let i = 0; i < values.length; i++) sums[i % channels] += values[i];
    return vector(Float32Array.from(sums, (sum) => (sum * channels) / values.length));
  },
};

function total(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum;
}

const sumsFrom = (bias, n) => (bias ? Float64Array.from(bias.values) : new Float64Array(n));
const vector = (values) => ({ values, height: 1, width: 1, channels: values.length });
const changed = (x, change) => ({ ...x, values: x.values.map((value, i) => change(value, i)) });

function pooled({ values, height, width, channels }, pool) {
  const rows = height >> 1, columns = width >> 1, result = new Float32Array(rows * columns * channels);
  for (let y = 0, i = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let c = 0; c < channels; c++, i++) {
        const at = (2 * y * width + 2 * x) * channels + c, below = at + width * channels;
        result[i] = pool(values[at], values[at + channels], values[below], values[below + channels]);
      }
    }
  }
  return { values: result, height: rows, width: columns, channels };
}

// Round float32 numbers to bfloat16, ties to even.
function toBf16(values) {
  const rounded = Float32Array.from(values), bits = new Uint32Array(rounded.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) & 0xffff0000;
  return rounded;
}

class Network {
  static SIDE = 28;
  static PRODUCTS = ["dense", "convolution"];

  #operations;
  #isRounding;

  // `arrays` of an operation are names of those in `stored`.
  constructor({ precision, operations }, stored) {
    this.#isRounding = precision === "bf16";
    this.#operations = operations.map(({ name, arrays, values }) => {
      const found = Object.fromEntries(Object.entries(arrays).map(([role, of]) => [role, stored.get(of)]));
      if (this.#rounds(name)) found.kernel.values = toBf16(found.kernel.values);
      return { name, arrays: found, values };
    });
  }

  // Return the log-probabilities, Float32Array, of an image's 784 grey values from 0 to 255.
  logProbabilities(pixels) {
    let x = { values: Float32Array.from(pixels, (grey) => grey / 255), height: Network.SIDE, width: Network.SIDE, channels: 1 };
    let kept = null;
    for (const { name, arrays, values } of this.#operations) {
      if (name === "keep") kept = x;
      else if (name === "add_kept") x = changed(x, (value, i) => value + kept.values[i]);
      else x = OPERATIONS[name](this.#rounds(name) ? { ...x, values: toBf16(x.values) } : x, arrays, values);
    }
    return logSoftmax(x.values);
  }

  #rounds(operation) {
    return this.#isRounding && Network.PRODUCTS.includes(operation);
  }
}

// Rounded as float32, since the entropy of sure answers depends on it.
function logSoftmax(logits) {
  const most = Math.max(...logits), shifted = logits.map((logit) => logit - most);
  const logOfSum = Math.fround(Math.log(Math.fround(total(shifted.map(Math.exp)))));
  return shifted.map((value) => value - logOfSum);
}
