"use strict";
(() => {
  const ROW = 28, HEAD = 28, MARGIN = 12, MOST_OPTIONS = 12, MARKS = { 1: "✓", 0: "✗", "-1": "·" };
  const TOKENS = "Below each token is its log-probability in nats; the stronger the colour, the less likely the token.";
  const WORDS = { 1: "right", 0: "wrong", "-1": "not judged alone" };
  const quoted = text => `'${text.replaceAll("'", `'"'"'`)}'`; // for a shell
  const $ = id => document.getElementById(id);
  const make = (tag, text, cls) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (cls) node.className = cls;
    return node;
  };
  const unpack = async id => {
    const bytes = Uint8Array.from(atob($(id).textContent.trim()), c => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };
  const fixed = (value, digits) => (+value.toFixed(digits) + 0).toFixed(digits);
  const number = value => value === null || value === undefined ? "" : fixed(value, 3);
  let data, prompts, tokens, loading, order = [], open = -1, hay = null, others = null;
  const state = { run: "", task: "", prompt: "", shots: "", seed: "", out: "", q: "", sort: "", gold: "", chosen: "", item: "" };

  const promptsOf = (task, run) => new Set(data.cells.filter(cell => cell[1] === task && (run === undefined || cell[0] === run)).map(cell => cell[2]));
  const cellOf = i => data.cells[data.cell[i]];
  const namesOf = i => data.names[data.options[i]] || [];
  const answer = i => data.chosen[i] >= 0 ? namesOf(i)[data.chosen[i]] : data.texts[i] ? data.texts[i][0][0] : "";
  const golds = i => data.texts[i] ? data.references[i] : (data.gold[i] || []).map(g => namesOf(i)[g]);
  const key = i => { const [, task, , shots, seed] = cellOf(i); return [task, shots, seed, data.id[i]].join("\u0001"); };
  const parts = i => prompts && prompts.items[i] ? prompts.items[i].map(p => prompts.texts[p]) : null;

  const optional = id => $(id) ? unpack(id) : undefined;
  const loadPrompts = () => loading ||= Promise.all([optional("prompts"), optional("tokens")]).then(found => { [prompts, tokens] = found; hay = null; });
  const text = i => {
    hay ||= new Array(data.id.length);
    if (hay[i] === undefined) {
      const own = parts(i);
      hay[i] = [data.id[i], ...golds(i), answer(i), ...namesOf(i), own ? own[own.length - 1] : ""].join("\n").toLowerCase();
    }
    return hay[i];
  };
  const flips = i => {
    if (!others) {
      others = new Map();
      for (let j = 0; j < data.id.length; j++) if (data.right[j] === 1) {
        const k = key(j);
        others.has(k) ? others.get(k).push(cellOf(j)) : others.set(k, [cellOf(j)]);
      }
    }
    const [run, task, prompt] = cellOf(i), only = of => promptsOf(task, of).size === 1;
    return data.right[i] === 0 && (others.get(key(i)) || []).some(([other, , its]) =>
      other !== run && (its === prompt || only(run) && only(other)));
  };

  const fits = data_filter => {
    const cells = data.cells.map(([run, task, prompt, shots, seed]) => (state.run === "" || run === +state.run) &&
      (state.task === "" || task === state.task) && (state.prompt === "" || prompt === state.prompt) && (state.shots === "" || shots === +state.shots) &&
      (state.seed === "" || seed === +state.seed));
    const q = state.q.toLowerCase(), found = [];
    for (let i = 0; i < data.id.length; i++) {
      if (!cells[data.cell[i]]) continue;
      if (state.out === "flips" ? !flips(i) : state.out !== "" && data.right[i] !== +state.out) continue;
      if (data_filter && state.gold !== "" && !(data.gold[i] && data.gold[i][0] === +state.gold && data.chosen[i] === +state.chosen)) continue;
      if (q && !text(i).includes(q)) continue;
      found.push(i);
    }
    return found;
  };
  const sorted = found => {
    const by = { margin: i => data.margin[i] ?? Infinity, loss: i => -(data.loss[i] ?? -Infinity) }[state.sort];
    return by ? found.sort((a, b) => by(a) - by(b) || a - b) : found;
  };

  const row = (i, place) => {
    const [run, task, prompt, shots, seed] = cellOf(i), node = make("div", undefined, "item" + (i === open ? " open" : ""));
    node.style.top = `${HEAD + place * ROW}px`;
    node.setAttribute("role", "option"); node.setAttribute("aria-selected", i === open); node.id = `row${i}`;
    node.append(make("span", MARKS[data.right[i]], WORDS[data.right[i]]), make("span", data.runs[run], "run"), make("span", task), make("span", prompt, "prompt"),
      make("span", shots, "n"), make("span", seed, "n"), make("span", data.id[i]), make("span", answer(i).slice(0, 200)),
      make("span", golds(i).join(", ").slice(0, 200)), make("span", number(data.margin[i]), "n"), make("span", number(data.loss[i]), "n"));
    node.firstChild.title = WORDS[data.right[i]];
    [data.runs[run], task, prompt].forEach((whole, at) => { node.children[at + 1].title = whole; });
    node.onclick = () => { show(i); render(); };
    return node;
  };
  const render = () => {
    const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - MARGIN);
    const last = Math.min(order.length, first + Math.ceil(list.clientHeight / ROW) + 2 * MARGIN);
    const rows = [$("space").firstElementChild];
    for (let place = first; place < last; place++) rows.push(row(order[place], place));
    $("space").replaceChildren(...rows);
    list.setAttribute("aria-activedescendant", open >= 0 ? `row${open}` : "");
  };
  const matrix = found => {
    const box = $("matrix"), all = found.filter(i => data.gold[i] && data.gold[i].length === 1 && data.chosen[i] >= 0);
    box.replaceChildren();
    const counts = new Set(all.map(i => namesOf(i).length)), size = Math.max(0, ...counts);
    if (!all.length || size > MOST_OPTIONS || counts.size > 1 || new Set(all.map(i => cellOf(i)[1])).size > 1) return;
    const same = new Set(all.map(i => data.options[i])).size === 1;
    const titles = [...Array(size).keys()].map(i => same ? namesOf(all[0])[i] : `option ${i + 1}`);
    const table = make("table"), head = table.createTHead().insertRow();
    head.append(make("th", "right answer ↓, chosen →"), ...titles.map(title => make("th", title.slice(0, 40))));
    const totals = titles.map(() => titles.map(() => 0));
    for (const i of all) totals[data.gold[i][0]][data.chosen[i]]++;
    const body = table.createTBody();
    totals.forEach((values, gold) => {
      const line = body.insertRow(), sum = values.reduce((a, b) => a + b, 0);
      line.append(make("th", titles[gold].slice(0, 40)));
      values.forEach((value, chosen) => {
        const cell = line.insertCell(), button = make("button", value);
        cell.style.setProperty("--v", sum ? value / sum : 0); cell.append(button);
        cell.className = state.gold === String(gold) && state.chosen === String(chosen) ? "on" : "";
        button.title = `${value} of ${sum}`;
        button.onclick = () => {
          const on = cell.className === "on";
          state.gold = on ? "" : String(gold); state.chosen = on ? "" : String(chosen); update();
        };
      });
    });
    table.className = "heat"; box.append(make("h3", "Confusion matrix"), table);
  };
  const scored = (i, option) => {
    const item = tokens && tokens.items[i], box = make("div", undefined, "tokens");
    if (!item || !item.logprobs[option]) return null;
    const texts = item.texts && tokens.sequences[item.texts[option]].map(each => tokens.texts[each]);
    item.logprobs[option].forEach((logprob, at) => {
      const token = make("span"), value = logprob === null ? "-∞" : fixed(logprob, 2);
      token.style.setProperty("--v", logprob === null ? 1 : Math.min(1, -logprob / 8));
      token.append(make("code", texts ? texts[at].replaceAll("\n", "↵") : "·"), make("small", value)); box.append(token);
    });
    return box;
  };
  const options = (i, body) => {
    const table = make("table"), head = table.createTHead().insertRow(), lines = table.createTBody();
    const known = [...data.normalizations.keys()].filter(n => (data.scores[i][0][n] ?? null) !== null);
    head.append(make("th", ""), make("th", "option"), ...known.map(n => make("th", data.normalizations[n], "n")));
    const shown = known.map(n => data.scores[i].map(scores => scores[n]));
    namesOf(i).forEach((name, option) => {
      const line = lines.insertRow(), gold = data.gold[i].includes(option), chosen = option === data.chosen[i];
      line.insertCell().textContent = (gold ? "* right" : "") + (gold && chosen ? ", " : "") + (chosen ? "chosen" : "");
      line.insertCell().append(make("span", name, chosen ? "answer" : ""), scored(i, option) || "");
      shown.forEach(scores => {
        const best = Math.max(...scores), total = scores.reduce((sum, s) => sum + Math.exp(s - best), 0), cell = line.insertCell();
        cell.className = "n"; cell.append(make("span", (Math.exp(scores[option] - best) / total).toFixed(3)), make("small", ` ${number(scores[option])}`));
      });
    });
    const box = make("div", undefined, "scroll"); box.append(table);
    if (tokens && tokens.items[i]) box.append(make("p", TOKENS, "soft"));
    body.append(make("h3", "Options: probability among them and score in nats, by normalisation or calibration"), box);
  };
  const show = async i => {
    open = i; state.item = `${data.cell[i]}:${data.id[i]}`; remember();
    await loadPrompts();
    const [run, task, prompt, shots, seed] = cellOf(i), body = $("detail"), own = parts(i), link = make("a", "link to this item");
    link.href = location.hash;
    const title = make("h3", `${data.runs.length > 1 ? data.runs[run] + ": " : ""}${task}, ${prompt}, ${shots} ${shots === 1 ? "shot" : "shots"}, seed ${seed}, example ${data.id[i]} `);
    const verdict = make("p"); verdict.append(make("span", WORDS[data.right[i]], WORDS[data.right[i]]),
      `${data.margin[i] === null ? "" : `, margin ${number(data.margin[i])}`}${data.loss[i] === null ? "" : `, loss ${number(data.loss[i])}`}, ${data.shown[i]} demonstrations shown. `, link);
    body.replaceChildren(title, verdict);
    if (data.truncated[i]) body.append(make("p", `The first ${data.truncated[i]} tokens of the query are not part of the prompt.`));
    if (data.scores[i]) options(i, body);
    else if (tokens && tokens.items[i]) body.append(make("h3", "Scored tokens"), scored(i, 0), make("p", TOKENS, "soft"));
    for (const [written, finished, extracted] of data.texts[i] || []) {
      body.append(make("h3", `Generated text (${finished})`), make("pre", written));
      for (const [name, found] of Object.entries(extracted)) body.append(make("p", `${name}: ${found === null ? "nothing found" : found}`));
    }
    if (data.texts[i]) body.append(make("h3", "References"), make("pre", golds(i).join("\n")));
    if (own) {
      const pre = make("pre"); pre.append(own.slice(1).join(own[0]));
      if (data.scores[i]) pre.append(" ", make("span", `⟦${answer(i)}⟧`, "answer"));
      pre.tabIndex = 0; body.append(make("h3", "Prompt"), pre); pre.scrollTop = pre.scrollHeight;
    } else body.append(make("p", "The prompt is not in this page. This command prints it:"), make("pre", data.commands[data.cell[i]] + ` --id ${quoted(data.id[i])} --prompt`));
  };
  const remember = () => {
    const kept = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== ""));
    history.replaceState(null, "", `#${kept}`);
  };
  const update = () => {
    const found = fits(false); matrix(found);
    order = sorted(state.gold === "" ? found : fits(true));
    const judged = order.filter(i => data.right[i] >= 0), right = judged.filter(i => data.right[i] === 1).length;
    $("count").textContent = `${order.length.toLocaleString("en")} of ${data.id.length.toLocaleString("en")} items` + (judged.length ? `, ${right.toLocaleString("en")} right (${(right / judged.length).toFixed(3)})` : "");
    $("space").style.height = `${HEAD + order.length * ROW}px`; $("list").scrollTop = 0; remember(); render();
  };
  const choose = (id, values) => {
    const box = $(id); values.forEach(([value, name]) => { const option = make("option", name); option.value = value; box.append(option); });
    box.value = state[id]; if (box.selectedIndex < 0) { box.value = ""; state[id] = ""; }
    box.onchange = () => { state[id] = box.value; state.gold = state.chosen = ""; update(); };
    box.parentElement.hidden = values.length < 2;
  };
  const move = step => {
    if (!order.length) return;
    const place = Math.min(order.length - 1, Math.max(0, order.indexOf(open) + step)), list = $("list");
    list.scrollTop = Math.min(Math.max(list.scrollTop, (place + 2) * ROW - list.clientHeight), place * ROW);
    show(order[place]); render();
  };
  const start = async () => {
    data = await unpack("data");
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in state) state[name] = value;
    const distinct = at => [...new Set(data.cells.map(cell => cell[at]))];
    const all = ["", "all"], named = values => [all, ...values.map(value => [String(value), String(value)])];
    const ascending = values => values.sort((a, b) => a - b);
    choose("run", data.runs.length > 1 ? [all, ...data.runs.map((name, i) => [String(i), name])] : [all]);
    choose("task", distinct(1).length > 1 ? named(distinct(1)) : [all]);
    choose("prompt", distinct(2).length > 1 ? named(distinct(2)) : [all]);
    $("list").classList.toggle("runs", data.runs.length > 1);
    $("list").classList.toggle("prompts", distinct(1).some(task => promptsOf(task).size > 1));
    choose("shots", distinct(3).length > 1 ? named(ascending(distinct(3))) : [all]);
    choose("seed", distinct(4).length > 1 ? named(ascending(distinct(4))) : [all]);
    choose("out", [all, ["1", "right"], ["0", "wrong"], ...(data.runs.length > 1 ? [["flips", "wrong, right in another run"]] : [])]);
    choose("sort", [["", "as in the file"], ["margin", "smallest margin"], ["loss", "largest loss"]]);
    let wait; $("q").value = state.q;
    $("q").oninput = () => { clearTimeout(wait); wait = setTimeout(async () => { state.q = $("q").value; await loadPrompts(); update(); }, 120); };
    $("list").onscroll = () => requestAnimationFrame(render);
    $("list").onkeydown = event => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -1e9, End: 1e9 }[event.key];
      if (step) { event.preventDefault(); move(step); }
    };
    document.addEventListener("keydown", event => {
      if (event.key === "/" && !/INPUT|SELECT/.test(event.target.tagName)) { event.preventDefault(); $("q").focus(); }
    });
    if (state.q) await loadPrompts();
    const wanted = state.item; update();
    const at = wanted.indexOf(":"), cell = +wanted.slice(0, at), id = wanted.slice(at + 1);
    const found = wanted ? data.id.findIndex((each, i) => data.cell[i] === cell && each === id) : -1;
    if (found >= 0) { await show(found); const place = order.indexOf(found); if (place >= 0) $("list").scrollTop = place * ROW; render(); $("detail").scrollIntoView(); }
    document.documentElement.dataset.ready = "yes";
  };
  start().catch(error => { $("count").textContent = `The items cannot be shown: ${error}`; });
})();
