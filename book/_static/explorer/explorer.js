// The page Explore: choose a model, a hook point, a layer and a sample; see curves, map and words.
// Without a server, and without this script, the page shows the same as still pictures.
"use strict";

(() => {
  const { Store } = window.explorerStore;
  const { averageDirections, computeCurves } = window.explorerMeasures;
  const LABELS = {
    PvsT: "perceptual–textual (PvsT)",
    PvsP: "perceptual between data sets (PvsP)",
    TvsT: "textual between data sets (TvsT)",
  };
  const DASHES = { PvsT: [], PvsP: [9, 4], TvsT: [2, 4] };
  const KINDS = ["perceptual", "textual"];
  const RANKS = ["first word", "second word", "third word"];
  const SHAPES = {
    text: "M2 2H14V14H2Z",
    image: "M8 1A7 7 0 1 1 8 15A7 7 0 1 1 8 1Z",
    video: "M8 1L15 14H1Z",
    audio: "M8 0L16 8L8 16L0 8Z",
  };
  const HEIGHT = 300;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const format = (value) => (Number.isFinite(value) ? value.toFixed(3).replace("-", "−") : "–");
  const showWord = (word) => (word.trim() ? word.replace(/\n/g, "↵") : "␣".repeat(word.length));

  function drawMark(modality) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", SHAPES[modality]);
    svg.append(path);
    return svg;
  }

  // What the book keeps of the caches of a model.
  class BookModel {
    constructor(store, folder) {
      this.store = store;
      this.folder = folder;
      const { name, datasets, hook_points: hookPoints, mapped } = store.attributes;
      Object.assign(this, { name, datasets, hookPoints, mapped });
    }

    async readCurves(hookPoint) {
      const path = `directions/${hookPoint}`;
      const [mean, layer] = await Promise.all([`${path}/mean`, `${path}/layer`].map((p) => this.store.read(p)));
      const [datasets, kinds, layers, hidden] = mean.shape;
      const size = kinds * layers * hidden;
      const directions = Array.from({ length: datasets }, (_, i) => mean.data.subarray(i * size, (i + 1) * size));
      return { layers: Array.from(layer.data), curves: computeCurves(directions, { layers, hidden }) };
    }

    async readSamples() {
      const names = ["id", "dataset", "modality", "prompt", "reference", "prediction", "media"];
      const columns = await Promise.all(names.map((name) => this.store.read(`samples/${name}`)));
      const samples = Array.from(columns[0].data, (_, row) =>
        Object.fromEntries(names.map((name, i) => [name, columns[i].data[row]])));
      return samples.map((sample) => ({ ...sample, media: `${this.folder}/${sample.media}` }));
    }

    async readMap(hookPoint) {
      if (!this.mapped.includes(hookPoint)) return null;
      const paths = ["points/sample", "points/kind", `map/${hookPoint}/position`];
      const [sample, kind, position] = await Promise.all(paths.map((path) => this.store.read(path)));
      return { samples: Array.from(sample.data), kinds: Array.from(kind.data), position };
    }

    async readWords() {
      if (!this.store.attributes.words) return null;
      const names = ["sample", "layer", "word", "probability", "vocabulary"];
      const [sample, layer, word, probability, vocabulary] = await Promise.all(
        names.map((name) => this.store.read(`words/${name}`)));
      const [, layers, ranks] = word.shape;
      const read = (token, at, rank) => {
        const place = (token * layers + at) * ranks + rank;
        return { word: vocabulary.data[word.data[place]], probability: probability.data[place] };
      };
      return { tokens: Array.from(sample.data), layers: Array.from(layer.data), ranks, read };
    }
  }

  // Whole caches at any address: their curves and texts.
  class CacheModel {
    static async open(addresses) {
      const stores = await Promise.all(addresses.map((address) => Store.open(address)));
      for (const store of stores) {
        const { schema, schema_version: version } = store.attributes;
        if (schema !== "ima-cache" || version !== "2") {
          throw new Error(`${store.address} is no cache of schema 2: it says ${schema} ${version}.`);
        }
      }
      const widths = stores.map((store) => JSON.stringify(store.attributes.layout.widths));
      if (new Set(widths).size > 1) throw new Error("The caches are not of one language model: their widths differ.");
      return new CacheModel(stores);
    }

    constructor(stores) {
      this.stores = stores;
      this.name = stores.map((store) => store.attributes.model.name).join(", ");
      this.datasets = stores.map((store) => ({ title: store.attributes.dataset.name, samples: store.attributes.parameters.samples }));
      this.hookPoints = Object.fromEntries(Object.keys(stores[0].attributes.layout.widths).map((name) => [name, ""]));
      this.mapped = [];
    }

    async readCurves(hookPoint) {
      const path = `means/${hookPoint}`;
      const means = await Promise.all(this.stores.map((store) => store.read(`${path}/mean`)));
      const layer = await this.stores[0].read(`${path}/layer`);
      const [, , layers, hidden] = means[0].shape;
      return { layers: Array.from(layer.data), curves: computeCurves(means.map(averageDirections), { layers, hidden }) };
    }

    async readSamples() {
      const listed = await Promise.all(this.stores.map(async (store, dataset) => {
        const names = ["id", "modality", "prompt", "references"];
        if (store.attributes.parameters.predict) names.push("prediction");
        const columns = await Promise.all(names.map((name) => store.read(`samples/${name}`)));
        return Array.from(columns[0].data, (id, row) => ({
          id, dataset, media: null, modality: columns[1].data[row], prompt: columns[2].data[row],
          reference: JSON.parse(columns[3].data[row])[0], prediction: columns[4]?.data[row] ?? "",
        }));
      }));
      return listed.flat();
    }

    readMap() { return null; }

    readWords() { return null; }
  }

  class Explorer {
    constructor(root, models) {
      this.root = root;
      this.models = models;
      this.build();
      new MutationObserver(() => this.drawCurves()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
      new ResizeObserver(() => this.resize()).observe(this.plot);
    }

    build() {
      const choose = (label, change) => {
        const select = make("select", { onchange: change });
        return { select, label: make("label", {}, label, select) };
      };
      const model = choose("Model", () => this.attempt(() => this.chooseModel(Number(model.select.value))));
      const hookPoint = choose("Hook point", () => this.attempt(() => this.chooseHookPoint(hookPoint.select.value)));
      this.slider = make("input", { type: "range", min: 0, value: 0, oninput: () => this.chooseLayer(Number(this.slider.value)) });
      this.layerName = make("output");
      const layer = make("label", {}, "Layer ", this.layerName, this.slider);
      this.models.forEach(({ name }, i) => model.select.append(make("option", { value: i }, name)));
      [this.modelSelect, this.hookSelect] = [model.select, hookPoint.select];
      this.problem = make("div");
      this.values = make("p", { class: "ex-values", role: "status", "aria-live": "polite" });
      this.legend = make("ul", { class: "ex-legend" });
      this.plot = make("div", { class: "ex-plot", role: "img" });
      this.hovered = make("p", { class: "ex-note", "aria-hidden": "true" });
      this.table = make("table");
      this.mapNote = make("p", { class: "ex-note" });
      this.mapLegend = make("ul", { class: "ex-legend" });
      this.map = make("div", { class: "ex-map", role: "group", "aria-label": "Map of samples", onkeydown: (event) => this.walk(event) });
      const sample = choose("Sample", () => this.chooseSample(Number(sample.select.value)));
      this.sampleSelect = sample.select;
      this.sampleStatus = make("p", { class: "ex-note", role: "status", "aria-live": "polite" });
      this.panel = make("div", { class: "ex-sample" });
      this.wordsNote = make("p", { class: "ex-note" });
      this.words = make("table");
      this.wordGrid = make("table");
      this.scrolls = [];
      const scroll = (name, table) => {
        const box = make("div", { class: "ex-scroll", tabindex: 0, role: "region", "aria-label": name }, table);
        this.scrolls.push(box);
        return box;
      };
      this.root.replaceChildren(
        make("div", { class: "ex-controls", role: "group", "aria-label": "What to show" }, model.label, hookPoint.label, layer),
        this.problem, this.values,
        make("h3", {}, "Similarity over depth"),
        this.legend, this.plot, this.hovered,
        make("details", {}, make("summary", {}, "The curves as a table"), scroll("The curves as a table", this.table)),
        make("h3", {}, "Map of samples"),
        this.mapNote, this.mapLegend, this.map,
        make("h3", {}, "A sample"),
        make("div", { class: "ex-controls" }, sample.label),
        this.sampleStatus, this.panel,
        make("h3", {}, "Words of its perceptual tokens"),
        this.wordsNote,
        scroll("Words at the chosen layer", this.words),
        scroll("First words at all layers", this.wordGrid),
      );
    }

    // A file that cannot be read is said so; the other choices stay.
    async attempt(action) {
      this.problem.replaceChildren();
      try {
        await action();
      } catch (error) {
        this.problem.replaceChildren(makeAlert("This choice could not be read.", error.message));
      }
    }

    async chooseModel(number) {
      const model = this.models[number];
      this.model = model;
      this.modelSelect.value = number;
      const [samples, words] = await Promise.all([model.readSamples(), model.readWords()]);
      if (model !== this.model) return; // another was chosen meanwhile
      const names = Object.keys(this.model.hookPoints);
      this.hookSelect.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
      Object.assign(this, { samples, wordTable: words, sample: undefined });
      this.fillSamples();
      await this.chooseHookPoint(names.includes("resid_post") ? "resid_post" : names[0]);
    }

    fillSamples() {
      const groups = this.model.datasets.map(({ title }) => make("optgroup", { label: title }));
      const counts = groups.map(() => 0);
      this.samples.forEach((sample, row) => {
        counts[sample.dataset] += 1;
        sample.title = `${this.model.datasets[sample.dataset].title} ${counts[sample.dataset]}`;
        groups[sample.dataset].append(make("option", { value: row }, `${sample.title}: ${sample.reference}`));
      });
      this.sampleSelect.replaceChildren(...groups);
    }

    async chooseHookPoint(name) {
      const before = this.layers?.[this.at];
      this.hookPoint = name;
      this.hookSelect.value = name;
      const { model } = this;
      const [{ layers, curves }, map] = await Promise.all([model.readCurves(name), model.readMap(name)]);
      if (model !== this.model || name !== this.hookPoint) return; // another was chosen meanwhile
      Object.assign(this, { layers, curves });
      this.slider.max = layers.length - 1;
      this.fillMap(map);
      this.fillTable();
      const kept = layers.indexOf(before);
      this.chooseLayer(kept >= 0 ? kept : Math.floor(layers.length / 2));
      this.drawCurves();
      if (this.sample === undefined) this.chooseSample(0);
    }

    chooseLayer(at) {
      this.at = at;
      this.slider.value = at;
      const layer = this.layers[at];
      this.layerName.textContent = layer;
      this.slider.setAttribute("aria-valuetext", `layer ${layer} of ${this.layers.at(-1)}`);
      const numbers = this.curves.map(({ curve, values }) => `${curve} ${format(values[at])}`).join(", ");
      const description = this.model.hookPoints[this.hookPoint];
      const samples = this.model.datasets.map((each) => `${each.title} (${each.samples})`).join(", ");
      this.values.textContent = `${this.model.name}, ${this.hookPoint}${description ? ` (${description})` : ""}, layer ${layer}: ${numbers}. Over the samples of ${samples}.`;
      for (const row of this.table.tBodies[0].rows) row.classList.toggle("chosen", Number(row.dataset.at) === at);
      this.uplot?.redraw(false);
      this.placePoints();
      if (this.sample !== undefined) this.fillWords();
    }

    drawCurves() {
      if (!this.curves) return;
      const style = getComputedStyle(this.root);
      const colour = (name) => style.getPropertyValue(`--ex-${name}`).trim();
      const [ink, line] = [style.color, colour("line")];
      const font = `13px ${style.fontFamily}`;
      const axis = { stroke: ink, font, labelFont: font, grid: { stroke: `${line}55` }, ticks: { stroke: line } };
      const names = this.curves.map(({ curve }) => LABELS[curve]).join(", ");
      this.plot.setAttribute("aria-label", `Curves over layers: ${names}. The table below holds their numbers.`);
      this.legend.replaceChildren(...this.curves.map(({ curve }) => this.describeCurve(curve)));
      this.uplot?.destroy();
      this.uplot = new uPlot({
        width: this.plot.clientWidth, height: HEIGHT, legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: false } },
        axes: [{ ...axis, label: "layer", incrs: [1, 2, 5, 10, 20] }, { ...axis, label: "mean cosine", size: 56 }],
        series: [{}, ...this.curves.map(({ curve }) => ({
          stroke: colour(curve), width: 2, dash: DASHES[curve], points: { show: true, size: 5, fill: colour(curve) },
        }))],
        hooks: {
          draw: [(plot) => this.markLayer(plot, colour("chosen"))],
          setCursor: [(plot) => this.showHovered(plot.cursor.idx)],
        },
      }, [this.layers, ...this.curves.map(({ values }) => values)], this.plot);
      this.uplot.over.addEventListener("click", () => {
        if (this.uplot.cursor.idx != null) this.chooseLayer(this.uplot.cursor.idx);
      });
    }

    describeCurve(curve) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 36 14");
      svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS(svg.namespaceURI, "path");
      line.setAttribute("d", "M0 7H36");
      line.setAttribute("style", `stroke: var(--ex-${curve}); stroke-width: 2.5; stroke-dasharray: ${DASHES[curve].join(" ") || "none"}`);
      svg.append(line);
      return make("li", {}, svg, ` ${LABELS[curve]}`);
    }

    markLayer(plot, colour) {
      const { ctx, bbox } = plot;
      const x = plot.valToPos(this.layers[this.at], "x", true);
      ctx.save();
      ctx.strokeStyle = colour;
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.restore();
    }

    showHovered(at) {
      const pointed = at === null || at === undefined ? "Point at the curves to read them; click to choose the layer."
        : `Layer ${this.layers[at]}: ${this.curves.map(({ curve, values }) => `${curve} ${format(values[at])}`).join(", ")}`;
      this.hovered.textContent = pointed;
    }

    resize() {
      if (this.uplot && this.plot.clientWidth) this.uplot.setSize({ width: this.plot.clientWidth, height: HEIGHT });
    }

    fillTable() {
      const head = make("tr", {}, make("th", { scope: "col" }, "layer"), ...this.curves.map(({ curve }) => make("th", { scope: "col" }, curve)));
      const rows = this.layers.map((layer, at) => make("tr", { "data-at": at }, make("th", { scope: "row" }, layer),
        ...this.curves.map(({ curve, values }) => make("td", { "data-curve": curve, "data-value": values[at] }, format(values[at])))));
      this.table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
    }

    fillMap(map) {
      this.points = map;
      this.map.hidden = map === null;
      this.mapLegend.hidden = map === null;
      if (map === null) {
        this.mapNote.textContent = this.model.mapped.length
          ? `The book has no map at ${this.hookPoint}. It has one at ${this.model.mapped.join(", ")}.`
          : "Whole caches have no map.";
        this.map.replaceChildren();
        return;
      }
      this.mapNote.textContent = "Each point is the mean of the perceptual or of the textual tokens of a sample, placed by t-SNE of cosine distances. Near points are similar; distances between groups mean nothing. Arrow keys walk from point to point.";
      const buttons = map.samples.map((row, point) => this.makePoint(row, point));
      this.map.replaceChildren(...buttons);
      const shown = [...new Set(map.samples.map((row, point) => this.getModality(row, point)))].sort();
      this.mapLegend.replaceChildren(...shown.map((modality) => {
        const mark = drawMark(modality);
        mark.setAttribute("class", "ex-mark");
        return make("li", {}, make("span", { class: `ex-key ${modality}` }, mark), ` ${modality} tokens`);
      }));
      this.markOwnPoints();
    }

    getModality(row, point) {
      return this.points.kinds[point] === 1 ? "text" : this.samples[row].modality;
    }

    makePoint(row, point) {
      const { title, reference } = this.samples[row];
      const choose = () => this.chooseSample(row, point);
      return make("button", {
        type: "button", class: `ex-point ${this.getModality(row, point)}`, tabindex: -1, "data-sample": row,
        "aria-label": `${title}, ${KINDS[this.points.kinds[point]]} tokens: ${reference}`, "aria-pressed": "false",
        onmouseenter: choose, onfocus: choose, onclick: choose,
      }, drawMark(this.getModality(row, point)));
    }

    placePoints() {
      if (this.points === null) return;
      const { data, shape } = this.points.position;
      const [, count] = shape;
      const own = Array.from({ length: count }, (_, point) => [0, 1].map((axis) => data[(this.at * count + point) * 2 + axis]));
      const ends = [0, 1].map((axis) => {
        const values = own.map((place) => place[axis]);
        return [Math.min(...values), Math.max(...values)];
      });
      own.forEach((place, point) => {
        const [x, y] = place.map((value, axis) => 4 + (92 * (value - ends[axis][0])) / (ends[axis][1] - ends[axis][0] || 1));
        this.map.children[point].style.left = `${x}%`;
        this.map.children[point].style.top = `${100 - y}%`;
      });
    }

    walk(event) {
      const points = [...this.map.children];
      const at = points.indexOf(document.activeElement);
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -at, End: points.length - 1 - at };
      if (!(event.key in steps) || at < 0) return;
      event.preventDefault();
      points[(at + steps[event.key] + points.length) % points.length].focus();
    }

    markOwnPoints(focused) {
      if (this.points === null) return;
      const points = [...this.map.children];
      const own = points.filter((point) => Number(point.dataset.sample) === this.sample);
      for (const point of points) {
        point.classList.toggle("own", own.includes(point));
        point.setAttribute("aria-pressed", String(own.includes(point)));
        point.tabIndex = -1;
      }
      const entered = points[focused] ?? own[0] ?? points[0];
      entered.tabIndex = 0;
    }

    chooseSample(row, point) {
      const same = row === this.sample;
      this.sample = row;
      this.sampleSelect.value = row;
      this.markOwnPoints(point);
      if (same) return;
      const { title, modality, media, prompt, reference, prediction } = this.samples[row];
      const dataset = this.model.datasets[this.samples[row].dataset];
      const texts = [["Prompt", prompt], ["Reference", reference], [`${dataset.model ?? this.model.name} says`, prediction]];
      const entries = texts.filter(([, text]) => text).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
      this.panel.replaceChildren(...this.makeMedia(modality, media, `${title}: ${reference}`), make("dl", {}, ...entries));
      this.sampleStatus.textContent = `${title}. ${prediction ? `The model says: ${prediction}` : `Reference: ${reference}`}`;
      this.fillWords();
    }

    makeMedia(modality, source, text) {
      if (source === null) return [];
      if (modality === "audio") return [make("audio", { controls: "", preload: "none", src: source, "aria-label": `Sound of ${text}` })];
      const alt = modality === "video" ? `Frames of the clip ${text}` : `Picture of ${text}`;
      return [make("img", { src: source, alt })];
    }

    fillWords() {
      const table = this.wordTable;
      const tokens = table === null ? [] : table.tokens.flatMap((row, token) => (row === this.sample ? [token] : []));
      for (const box of this.scrolls.slice(1)) box.hidden = !tokens.length;
      if (!tokens.length) {
        this.wordsNote.textContent = "There are no words of this sample's tokens here.";
        return;
      }
      // Words are read from the residual stream; other hook points have no layer 0.
      const at = table.layers.indexOf(this.layers[this.at]);
      this.wordsNote.textContent = `The logit lens reads the residual stream after each block as the model reads its last one. Above: the likeliest next words at layer ${table.layers[at]}, with their probabilities. Below: the likeliest at each layer.`;
      const head = (names) => make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
      const rows = tokens.map((token, i) => make("tr", {}, make("th", { scope: "row" }, i + 1),
        ...RANKS.slice(0, table.ranks).map((_, rank) => {
          const { word, probability } = table.read(token, at, rank);
          return make("td", {}, `${showWord(word)} `, make("small", {}, probability.toFixed(2)));
        })));
      this.words.replaceChildren(head(["token", ...RANKS.slice(0, table.ranks)]), make("tbody", {}, ...rows));
      const grid = table.layers.map((layer, i) => make("tr", { class: i === at ? "chosen" : "" }, make("th", { scope: "row" }, layer),
        ...tokens.map((token) => make("td", {}, showWord(table.read(token, i, 0).word)))));
      this.wordGrid.replaceChildren(head(["layer", ...tokens.map((_, i) => `token ${i + 1}`)]), make("tbody", {}, ...grid));
    }
  }

  async function openBookModels(folder) {
    const answer = await fetch(`${folder}/index.json`);
    if (!answer.ok) throw new Error(`${folder}/index.json: the server answers ${answer.status}.`);
    const { models } = await answer.json();
    const stores = await Promise.all(models.map(({ store }) => Store.open(`${folder}/${store}`)));
    return stores.map((store) => new BookModel(store, folder));
  }

  // The caches that the address of the page names: they stand first.
  async function openOwnCaches() {
    const addresses = new URLSearchParams(location.search).getAll("cache");
    return addresses.length ? [await CacheModel.open(addresses.map((each) => new URL(each, location.href).href))] : [];
  }

  function makeAlert(...lines) {
    return make("div", { class: "ex-notice ex-error", role: "alert" }, ...lines.map((line) => make("p", {}, line)));
  }

  async function start() {
    const root = document.getElementById("explorer");
    // Browsers let no page read files beside it from a disk: the notice of the page stays.
    if (root === null || location.protocol === "file:") return;
    const notice = root.innerHTML;
    root.innerHTML = '<p role="status">Opening the caches …</p>';
    try {
      const folder = new URL(root.dataset.folder, location.href).href;
      const book = await openBookModels(folder);
      let problem = null;
      const own = await openOwnCaches().catch((error) => {
        problem = error;
        return [];
      });
      const explorer = new Explorer(root, [...own, ...book]);
      await explorer.attempt(() => explorer.chooseModel(0));
      if (problem !== null) root.prepend(makeAlert("The caches in the address of this page could not be opened.", problem.message));
      root.dataset.ready = "true";
    } catch (error) {
      root.innerHTML = notice;
      root.prepend(makeAlert("The caches could not be opened, so the still pictures below are all there is.", error.message));
      console.error(error);
    }
  }

  start();
})();
