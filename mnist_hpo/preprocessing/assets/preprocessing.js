"use strict";
// From a picture of handwriting to images such as MNIST's: the browser's port of the Python package
// mnist_hpo.preprocessing, whose modules have the same names as the sections below and explain each step.
// All numbers are integers below 2^53, so both give the same pixels. Change them together.
//
// MnistPreprocessing.findDigits(rgba, width, height, {line}) -> [{pixels: Uint8Array(784), box: [l, t, r, b]}, …]
//   rgba: the bytes of a canvas's ImageData; the list is empty if nothing is written in the picture.
// MnistPreprocessing.greyOf(rgba) -> Uint8Array, 255 = white
globalThis.MnistPreprocessing = (() => {
  function sum(values) {
    let total = 0;
    for (let i = 0; i < values.length; i++) total += values[i];
    return total;
  }

  const divide = (dividend, divisor) => Math.floor(dividend / divisor);
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);

  function indexOfLargest(values) {
    let best = 0;
    for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
    return best;
  }

  // ---- decode: grey values of a picture with colours and transparency

  const MIDDLE = 127, FLAT = 16;

  function greyOf(rgba) {
    const n = rgba.length / 4, grey = new Uint8Array(n);
    let weight = 0, weighted = 0, nOpaque = 0, lowest = 255, highest = 0;
    for (let i = 0, p = 0; i < n; i++, p += 4) {
      // The luma of ITU-R BT.601 in 65536ths, as Pillow computes it.
      const luma = (rgba[p] * 19595 + rgba[p + 1] * 38470 + rgba[p + 2] * 7471 + 0x8000) >> 16;
      const alpha = rgba[p + 3];
      grey[i] = luma;
      weight += alpha;
      weighted += luma * alpha;
      if (alpha > MIDDLE) {
        nOpaque++;
        if (luma < lowest) lowest = luma;
        if (luma > highest) highest = luma;
      }
    }
    if (weight === 0) return grey.fill(255);
    const isLight = weighted > MIDDLE * weight;
    const isDrawn = 2 * nOpaque < n || highest - lowest < FLAT;
    const background = isLight === isDrawn ? 0 : 255;
    for (let i = 0; i < n; i++) {
      const alpha = rgba[4 * i + 3];
      if (alpha < 255) grey[i] = divide(grey[i] * alpha + background * (255 - alpha) + MIDDLE, 255);
    }
    return grey;
  }

  // ---- images: {values, height, width}, row by row

  const image = (values, height, width) => ({ values, height, width });
  const mapped = (picture, change) => image(picture.values.map(change), picture.height, picture.width);

  function transposed({ values, height, width }) {
    const result = new values.constructor(values.length);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) result[x * height + y] = values[y * width + x];
    }
    return image(result, width, height);
  }

  function cropped({ values, width }, { left, top, right, bottom }) {
    const result = new values.constructor((bottom - top) * (right - left));
    for (let y = top; y < bottom; y++) {
      result.set(values.subarray(y * width + left, y * width + right), (y - top) * (right - left));
    }
    return image(result, bottom - top, right - left);
  }

  function padded({ values, height, width }, reach) {
    const wide = width + 2 * reach, result = new values.constructor((height + 2 * reach) * wide);
    for (let y = 0; y < height; y++) {
      result.set(values.subarray(y * width, (y + 1) * width), (y + reach) * wide + reach);
    }
    return image(result, height + 2 * reach, wide);
  }

  // ---- resample: exact averages over areas

  const LEVEL = 256, MAX_WORKING_PIXELS = 200000;

  function reduction(height, width) {
    let side = 1;
    while (Math.ceil(height / side) * Math.ceil(width / side) > MAX_WORKING_PIXELS) side++;
    return side;
  }

  function blockAverages(grey, height, width, side) {
    const rows = Math.ceil(height / side), columns = Math.ceil(width / side);
    const averages = new Float64Array(rows * columns);
    for (let y = 0; y < height; y++) {
      const row = divide(y, side) * columns;
      for (let column = 0, x = 0; column < columns; column++) {
        let total = 0;
        for (const end = Math.min(x + side, width); x < end; x++) total += grey[y * width + x];
        averages[row + column] += total;
      }
    }
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const count = Math.min(side, height - row * side) * Math.min(side, width - column * side);
        const at = row * columns + column;
        averages[at] = divide(averages[at] * LEVEL + divide(count, 2), count);
      }
    }
    return image(averages, rows, columns);
  }

  function areaSums(picture, height, width) {
    return transposed(sumsAlongRows(transposed(sumsAlongRows(picture, height)), width));
  }

  function sumsAlongRows({ values, height, width }, nAreas) {
    const sums = new Float64Array(nAreas * width);
    for (let area = 0; area < nAreas; area++) {
      const start = area * height, end = start + height;
      for (let y = divide(start, nAreas); y * nAreas < end; y++) {
        const shared = Math.min((y + 1) * nAreas, end) - Math.max(y * nAreas, start);
        for (let x = 0; x < width; x++) sums[area * width + x] += values[y * width + x] * shared;
      }
    }
    return image(sums, nAreas, width);
  }

  // ---- windows: averages and extremes around each pixel

  function boxAverage(picture, reach) {
    if (reach === 0) return picture;
    const { height, width } = picture;
    const sums = transposed(windowSums(transposed(windowSums(picture, reach)), reach)).values;
    const size = (at, n) => Math.min(at + reach + 1, n) - Math.max(at - reach, 0);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const count = size(y, height) * size(x, width);
        sums[y * width + x] = divide(sums[y * width + x] + divide(count, 2), count);
      }
    }
    return image(sums, height, width);
  }

  function windowSums({ values, height, width }, reach) {
    const sums = new Float64Array(values.length), running = new Float64Array(width);
    const add = (y, sign) => {
      for (let x = 0; x < width; x++) running[x] += sign * values[y * width + x];
    };
    for (let y = 0; y < Math.min(reach, height); y++) add(y, 1);
    for (let y = 0; y < height; y++) {
      if (y + reach < height) add(y + reach, 1);
      if (y - reach > 0) add(y - reach - 1, -1);
      sums.set(running, y * width);
    }
    return image(sums, height, width);
  }

  function maximum(picture, reach) {
    return transposed(windowMaxima(transposed(windowMaxima(picture, reach)), reach));
  }

  const minimum = (picture, reach) => mapped(maximum(mapped(picture, (v) => -v), reach), (v) => -v);

  // The maxima down to and up from each boundary of blocks as long as the window (van Herk, 1992).
  function windowMaxima({ values, height, width }, reach) {
    const size = 2 * reach + 1, result = new values.constructor(values.length);
    const down = values.slice(), up = values.slice();
    for (let y = 1; y < height; y++) {
      if (y % size === 0) continue;
      for (let i = y * width; i < (y + 1) * width; i++) if (down[i - width] > down[i]) down[i] = down[i - width];
    }
    for (let y = height - 2; y >= 0; y--) {
      if ((y + 1) % size === 0) continue;
      for (let i = y * width; i < (y + 1) * width; i++) if (up[i + width] > up[i]) up[i] = up[i + width];
    }
    for (let y = 0; y < height; y++) {
      const first = Math.max(y - reach, 0), last = Math.min(y + reach, height - 1);
      // A window that the border cuts off can lie in one block, at its beginning or at its end.
      const isWithin = divide(first, size) === divide(last, size);
      const isBeginning = isWithin && first % size === 0, isEnd = isWithin && !isBeginning;
      for (let x = 0; x < width; x++) {
        const a = up[first * width + x], b = down[last * width + x];
        result[y * width + x] = isEnd || (!isBeginning && a > b) ? a : b;
      }
    }
    return image(result, height, width);
  }

  // ---- paper: which is darker, and how light the paper is at each pixel

  const N_LEVELS = 256, WHITE = 255 * LEVEL, BAND = 6, DRAWING_PERCENT = 80, MAJORITY_PERCENT = 60;

  function findPaper(picture) {
    const inverted = (of) => mapped(of, (value) => WHITE - value);
    const colour = colourOfDrawing(picture);
    if (colour !== null) {
      const isLightOnDark = sum(picture.values) > colour * picture.values.length;
      const paper = mapped(picture, () => (isLightOnDark ? WHITE - colour : colour));
      return { sheet: isLightOnDark ? inverted(picture) : picture, paper };
    }
    const longest = Math.max(picture.height, picture.width);
    const reach = divide(longest, 8);
    let sheet = picture, smooth = boxAverage(picture, divide(longest, 256));
    if (isLightOnDark(smooth, reach)) [sheet, smooth] = [inverted(sheet), inverted(smooth)];
    return { sheet, paper: closing(smooth, reach) };
  }

  function closing(picture, reach) {
    const { height, width } = picture;
    const box = { left: reach, top: reach, right: reach + width, bottom: reach + height };
    return cropped(minimum(maximum(padded(picture, reach), reach), reach), box);
  }

  function colourOfDrawing({ values, height, width }) {
    const counts = new Float64Array(N_LEVELS), border = new Float64Array(N_LEVELS);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const level = divide(values[i] + LEVEL / 2, LEVEL);
        counts[level]++;
        if (y === 0 || y === height - 1 || x === 0 || x === width - 1) border[level]++;
      }
    }
    const bands = pixelsInBands(counts), borderBands = pixelsInBands(border);
    const first = indexOfLargest(bands);
    const second = indexOfLargest(bands.map((n, level) => (Math.abs(level - first) > 2 * BAND ? n : 0)));
    const isSecondApart = Math.abs(second - first) > 2 * BAND;
    if (100 * (bands[first] + (isSecondApart ? bands[second] : 0)) < DRAWING_PERCENT * values.length) return null;
    const isMajority = 100 * bands[first] >= MAJORITY_PERCENT * values.length;
    const centre = isMajority || borderBands[first] >= borderBands[second] ? first : second;
    const lowest = Math.max(0, centre - BAND);
    const level = lowest + indexOfLargest(counts.subarray(lowest, centre + BAND + 1));
    const hasGrain = 2 * counts[level] < bands[centre];
    return hasGrain ? null : level * LEVEL;
  }

  function pixelsInBands(counts) {
    return counts.map((_, level) => sum(counts.subarray(Math.max(0, level - BAND), level + BAND + 1)));
  }

  function isLightOnDark(smooth, reach) {
    const averages = boxAverage(smooth, reach).values;
    const lightest = maximum(smooth, reach).values, darkest = minimum(smooth, reach).values;
    return sum(averages.map((average, i) => 2 * average - lightest[i] - darkest[i])) < 0;
  }

  // ---- ink: from 0 to FULL for each pixel

  const FULL = 4096, HALF = FULL / 2, LOWEST_CONTRAST = FULL / 16;

  // null if nothing differs clearly from the paper.
  function inkOf({ sheet, paper }) {
    const counts = new Float64Array(FULL + 1);
    const contrast = mapped(sheet, (value, i) => {
      const lightness = Math.max(paper.values[i], 1);
      const lacking = clip(divide((lightness - value) * FULL, lightness), 0, FULL);
      counts[lacking]++;
      return lacking;
    });
    const grain = grainOf(counts);
    const threshold = thresholdOf(counts, grain);
    if (threshold === null) return null;
    const range = threshold + quantile(counts.subarray(threshold), 19, 20) - grain.limit;
    return mapped(contrast, (value) => clip(divide((value - grain.limit) * FULL, range), 0, FULL));
  }

  function grainOf(counts) {
    const low = quantile(counts, 1, 10), high = quantile(counts, 4, 10);
    const deviation = high - low, centre = high + divide(deviation, 4);
    return { centre, deviation, limit: Math.min(centre + 3 * deviation, FULL - 1) };
  }

  function quantile(counts, share, of) {
    const wanted = sum(counts) * share;
    for (let value = 0, reached = 0; ; value++) {
      reached += counts[value];
      if (reached * of >= wanted) return value;
    }
  }

  function thresholdOf(counts, grain) {
    const needed = Math.max(LOWEST_CONTRAST, 6 * grain.deviation);
    for (let start = Math.max(grain.limit, LOWEST_CONTRAST / 2); start <= FULL; start *= 2) {
      const { threshold, strokes } = separate(counts, start);
      if (strokes - grain.centre >= needed) return threshold;
    }
    return null;
  }

  function separate(counts, start) {
    const nPixels = sum(counts), total = sum(counts.map((count, value) => count * value));
    let threshold = 0, nLow = 0, low = 0, next = start;
    for (;;) {
      for (; threshold < next; threshold++) {
        nLow += counts[threshold];
        low += counts[threshold] * threshold;
      }
      if (nLow === nPixels) return { threshold, strokes: 0 };
      const strokes = divide(total - low, nPixels - nLow);
      next = divide(strokes + divide(low, Math.max(nLow, 1)), 2);
      if (next <= threshold) return { threshold, strokes };
    }
  }

  // ---- strokes: what is connected, without specks

  const SPECK_PERCENT = 3, SPECK = -1, SMALLEST = 50, SMALLEST_INSIDE = 8, MOST_STROKES = 100, EDGE_REACHES = [1, 2, 4, 8];

  // null if there are only specks. Labels are numbers from 1, at the stroke's index + 1.
  function findStrokes(ink) {
    const { strokes: all, labels } = components(ink);
    const strokes = withoutFrame(all, labels);
    const largest = strokes.reduce((most, stroke) => Math.max(most, stroke.area), 0);
    const kept = strokes
      .filter((stroke) => 100 * stroke.area >= SPECK_PERCENT * largest)
      .sort((a, b) => b.area - a.area)
      .slice(0, MOST_STROKES);
    const longest = Math.max(...kept.map(({ left, top, right, bottom }) => Math.max(right - left, bottom - top)));
    if (SMALLEST * longest < Math.max(ink.height, ink.width)) return null;
    const sides = ["left", "top", "right", "bottom", "area"];
    kept.sort((a, b) => sides.map((side) => a[side] - b[side]).find((difference) => difference !== 0) ?? 0);
    const numbers = new Int32Array(all.length + 1).fill(SPECK, 1);
    kept.forEach((stroke, index) => (numbers[stroke.label] = index + 1));
    let numbered = mapped(labels, (label) => numbers[label]);
    for (const reach of EDGE_REACHES) numbered = withEdges(numbered, ink.values, reach);
    numbered = mapped(numbered, (label) => Math.max(label, 0));
    return { strokes: kept.map((stroke, index) => ({ ...stroke, label: index + 1 })), labels: numbered };
  }

  function withoutFrame(strokes, { values, height, width }) {
    // How many pixels of each stroke lie along the top, bottom, left and right side.
    const contacts = Array.from(strokes, () => [0, 0, 0, 0]);
    const count = (at, side) => { if (values[at] > 0) contacts[values[at] - 1][side]++; };
    for (let x = 0; x < width; x++) {
      count(x, 0);
      count((height - 1) * width + x, 1);
    }
    for (let y = 0; y < height; y++) {
      count(y * width, 2);
      count(y * width + width - 1, 3);
    }
    const touched = contacts.map((sides) => sides.filter((n) => n > 0).length);
    const isFrame = contacts.map(
      (sides, i) => touched[i] >= 2 && sides.some((n, side) => 2 * n >= (side < 2 ? width : height)));
    const isInside = strokes.some(({ left, top, right, bottom }, i) =>
      touched[i] === 0 && SMALLEST_INSIDE * Math.max(right - left, bottom - top) >= Math.max(height, width));
    return isInside ? strokes.filter((_, i) => !isFrame[i]) : strokes;
  }

  // Only few pixels are a soft edge, so looking around each is faster than computing all maxima.
  function withEdges({ values, height, width }, ink, reach) {
    const result = values.slice();
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (values[i] !== 0 || ink[i] === 0) continue;
        for (let v = Math.max(y - reach, 0); v <= Math.min(y + reach, height - 1); v++) {
          for (let u = Math.max(x - reach, 0); u <= Math.min(x + reach, width - 1); u++) {
            if (values[v * width + u] > result[i]) result[i] = values[v * width + u];
          }
        }
      }
    }
    return image(result, height, width);
  }

  function components({ values, height, width }) {
    const labels = new Int32Array(values.length), stack = new Int32Array(values.length), strokes = [];
    for (let start = 0; start < values.length; start++) {
      if (values[start] < HALF || labels[start] !== 0) continue;
      const stroke = { label: strokes.length + 1, left: width, top: height, right: 0, bottom: 0, area: 0 };
      let n = 0;
      labels[start] = stroke.label;
      stack[n++] = start;
      while (n > 0) {
        const at = stack[--n], y = divide(at, width), x = at - y * width;
        stroke.area++;
        stroke.left = Math.min(stroke.left, x);
        stroke.top = Math.min(stroke.top, y);
        stroke.right = Math.max(stroke.right, x + 1);
        stroke.bottom = Math.max(stroke.bottom, y + 1);
        for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); v++) {
          for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); u++) {
            const near = v * width + u;
            if (values[near] >= HALF && labels[near] === 0) {
              labels[near] = stroke.label;
              stack[n++] = near;
            }
          }
        }
      }
      strokes.push(stroke);
    }
    return { strokes, labels: image(labels, height, width) };
  }

  // ---- line: strokes grouped to digits

  function numberDigits(strokes, labels) {
    const height = Math.max(...strokes.map((stroke) => stroke.bottom - stroke.top));
    const parts = mergeLow(mergeStacked(strokes.map((stroke) => partOf([stroke]))), height);
    parts.sort((a, b) => a.left + a.right - b.left - b.right || a.left - b.left);
    const firstNumbers = new Int32Array(strokes.length + 1), cutsOf = new Map();
    let next = 1;
    for (const part of parts) {
      const cuts = cutsIn(part, labels, height);
      for (const { label } of part.strokes) {
        firstNumbers[label] = next;
        if (cuts.length > 0) cutsOf.set(label, cuts);
      }
      next += 1 + cuts.length;
    }
    return mapped(labels, (label, i) => {
      const cuts = cutsOf.get(label);
      return firstNumbers[label] + (cuts ? cuts.filter((cut) => i % labels.width >= cut).length : 0);
    });
  }

  function partOf(strokes) {
    const least = (side) => Math.min(...strokes.map((stroke) => stroke[side]));
    const most = (side) => Math.max(...strokes.map((stroke) => stroke[side]));
    return { strokes, left: least("left"), right: most("right"), height: most("bottom") - least("top") };
  }

  const gap = (a, b) => Math.max(a.left, b.left) - Math.min(a.right, b.right);

  function mergeStacked(parts) {
    const merged = [];
    for (const part of parts.slice().sort((a, b) => a.left - b.left)) {
      const index = merged.findIndex(
        (other) => -2 * gap(part, other) >= Math.min(part.right - part.left, other.right - other.left));
      if (index < 0) merged.push(part);
      else merged[index] = partOf([...merged[index].strokes, ...part.strokes]);
    }
    return merged.length === parts.length ? merged : mergeStacked(merged);
  }

  function mergeLow(parts, height) {
    const isHigh = (part) => 2 * part.height >= height;
    const high = parts.filter(isHigh);
    for (const part of parts) {
      if (isHigh(part)) continue;
      const nearest = indexOfLargest(high.map((other) => -gap(part, other)));
      if (5 * gap(part, high[nearest]) < height) {
        high[nearest] = partOf([...high[nearest].strokes, ...part.strokes]);
      } else if (3 * Math.max(part.height, part.right - part.left) >= height) {
        high.push(part);
      }
    }
    return high;
  }

  function cutsIn(part, labels, height) {
    const width = part.right - part.left;
    if (4 * width <= 5 * height) return [];
    const nDigits = Math.max(2, divide(8 * width + 3 * height, 6 * height));
    const own = new Set(part.strokes.map((stroke) => stroke.label)), counts = new Int32Array(width);
    for (let y = 0; y < labels.height; y++) {
      for (let x = 0; x < width; x++) if (own.has(labels.values[y * labels.width + part.left + x])) counts[x]++;
    }
    const reach = divide(width, 3 * nDigits), cuts = [];
    for (let cut = 1; cut < nDigits; cut++) {
      const start = divide(cut * width, nDigits) - reach;
      cuts.push(part.left + start + indexOfLargest(counts.slice(start, start + 2 * reach + 1).map((n) => -n)));
    }
    return cuts;
  }

  // ---- digit: scaled and centred

  const SIDE = 28, LONGEST = 20, EDGE = divide(FULL * 2, 5);

  function boxWhere({ values, height, width }, isInside) {
    const box = { left: width, top: height, right: 0, bottom: 0 };
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!isInside(values[i])) continue;
        if (x < box.left) box.left = x;
        if (y < box.top) box.top = y;
        if (x >= box.right) box.right = x + 1;
        box.bottom = y + 1;
      }
    }
    return box;
  }

  const boxOf = (ink) => boxWhere(ink, (value) => value >= EDGE);

  function asMnist(ink) {
    const wide = thickEnough(cropped(ink, boxOf(ink)));
    const digit = cropped(wide, boxOf(wide));
    const longest = Math.max(digit.height, digit.width);
    const scaled = (n) => Math.max(1, divide(2 * LONGEST * n + longest, 2 * longest));
    const height = scaled(digit.height), width = scaled(digit.width);
    const sums = areaSums(digit, height, width).values;
    const most = sums.reduce((a, b) => Math.max(a, b));
    const pixels = sums.map((value) => divide(value * 255 + divide(most, 2), most));
    const rows = new Float64Array(height), columns = new Float64Array(width);
    pixels.forEach((value, i) => {
      rows[divide(i, width)] += value;
      columns[i % width] += value;
    });
    const top = firstOf(rows), left = firstOf(columns), result = new Uint8Array(SIDE * SIDE);
    for (let y = 0; y < height; y++) {
      result.set(pixels.subarray(y * width, (y + 1) * width), (top + y) * SIDE + left);
    }
    return result;
  }

  function thickEnough(ink) {
    const { values, height, width } = ink, longest = Math.max(height, width);
    const isStroke = (y, x) => y >= 0 && y < height && x >= 0 && x < width && values[y * width + x] >= HALF;
    let area = 0, outline = 0;
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        const here = isStroke(y, x);
        area += here;
        outline += (here !== isStroke(y - 1, x)) + (here !== isStroke(y, x - 1));
      }
    }
    if (2 * area * LONGEST >= longest * outline) return ink;
    const reach = divide(8 * longest * outline - 200 * area + 100 * outline, 200 * outline);
    return maximum(padded(ink, reach), reach);
  }

  function firstOf(sums) {
    const mass = sum(sums), moment = sum(sums.map((value, i) => value * i));
    return clip(-divide(2 * moment - (SIDE - 1) * mass, 2 * mass), 0, SIDE - sums.length);
  }

  // ---- find

  function findDigits(rgba, width, height, { line = false } = {}) {
    const side = reduction(height, width);
    const ink = inkOf(findPaper(blockAverages(greyOf(rgba), height, width, side)));
    const found = ink && findStrokes(ink);
    if (!found) return [];
    const numbers = line ? numberDigits(found.strokes, found.labels) : mapped(found.labels, (label) => Math.min(label, 1));
    const nDigits = numbers.values.reduce((most, number) => Math.max(most, number), 0), digits = [];
    for (let number = 1; number <= nDigits; number++) {
      const { left, top, right, bottom } = boxWhere(numbers, (value) => value === number);
      if (right === 0) continue;
      const own = cropped(numbers, { left, top, right, bottom }).values;
      const part = mapped(cropped(ink, { left, top, right, bottom }), (value, i) => (own[i] === number ? value : 0));
      if (!part.values.some((value) => value >= HALF)) continue;
      const box = boxOf(part);
      digits.push({
        pixels: asMnist(part),
        box: [
          (left + box.left) * side,
          (top + box.top) * side,
          Math.min((left + box.right) * side, width),
          Math.min((top + box.bottom) * side, height),
        ],
      });
    }
    return digits;
  }

  return { findDigits, greyOf };
})();
