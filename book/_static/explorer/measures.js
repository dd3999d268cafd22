// Mean cosines over all pairs of samples, as ima.measures.similarity computes them.
"use strict";

(() => {
  const CURVES = ["PvsT", "PvsP", "TvsT"];

  // From means (sample, kind, layer, hidden) the average unit vectors (kind, layer, hidden).
  function averageDirections({ data, shape }) {
    const [samples, kinds, layers, hidden] = shape;
    const total = new Float64Array(kinds * layers * hidden);
    for (let vector = 0; vector < samples * kinds * layers; vector += 1) {
      const from = vector * hidden;
      const to = (vector % (kinds * layers)) * hidden;
      let square = 0;
      for (let i = from; i < from + hidden; i += 1) square += data[i] * data[i];
      const scale = 1 / Math.sqrt(square) / samples;
      for (let i = 0; i < hidden; i += 1) total[to + i] += data[from + i] * scale;
    }
    return total;
  }

  function dot(left, right, start, other, hidden) {
    let sum = 0;
    for (let i = 0; i < hidden; i += 1) sum += left[start + i] * right[other + i];
    return sum;
  }

  // By curve a value per layer: the mean over data sets, or over pairs of data sets. A curve
  // without a pair of data sets is left out.
  function computeCurves(directions, { layers, hidden }) {
    const sums = new Map();
    const add = (curve, a, b, [kindA, kindB]) => {
      if (!sums.has(curve)) sums.set(curve, { count: 0, values: new Float64Array(layers) });
      const own = sums.get(curve);
      own.count += 1;
      for (let layer = 0; layer < layers; layer += 1) {
        const at = (kind) => (kind * layers + layer) * hidden;
        own.values[layer] += dot(a, b, at(kindA), at(kindB), hidden);
      }
    };
    directions.forEach((a, i) => {
      add("PvsT", a, a, [0, 1]);
      for (const b of directions.slice(i + 1)) {
        add("PvsP", a, b, [0, 0]);
        add("TvsT", a, b, [1, 1]);
      }
    });
    return CURVES.filter((curve) => sums.has(curve)).map((curve) => {
      const { count, values } = sums.get(curve);
      return { curve, values: Array.from(values, (value) => value / count) };
    });
  }

  window.explorerMeasures = { averageDirections, computeCurves };
})();
