"use strict";
// Shows the runs a page at a time: search, filters, order, a link to what is seen, and a download of it.
// Everything from outside reaches the page as text alone (textContent); nothing is fetched.
(() => {
  const PAGE = 100;
  const MOST_PRINTED = 2000;
  const MOST_OPTIONS = 1000;
  const byId = (id) => document.getElementById(id);
  const parsed = (id) => JSON.parse(byId(id).textContent);
  const model = parsed("model");
  const words = parsed("words");
  const rows = parsed("data");
  byId("data").remove();
  const at = Object.fromEntries(model.fields.map((name, index) => [name, index]));
  const coded = new Set(["account_id", "region", "transform_id", "transform_name", "task_type", "status_before", "outcome",
    "status_after", "rule", "error_code", "error_message", "glue_version"].map((name) => at[name]));
  const times = new Set(model.times.map((name) => at[name]));

  // A run's value of a field, as report.csv has it before it guards against formulas.
  const value = (row, index) => {
    const raw = row[index];
    if (raw === null) return null;
    if (coded.has(index)) return typeof raw === "number" ? words[raw] : raw;
    if (times.has(index)) return new Date(raw).toISOString();
    return raw;
  };
  const get = (row, name) => value(row, at[name]);
  const target = (row) => `${get(row, "account_id") ?? "account not known"}/${get(row, "region")}`;

  // -- what is chosen, as the address has it ---------------------------------------------------------------------------

  const NOTHING = { q: "", outcome: [], target: "", transform: "", type: "", sweep: "", sort: "", page: 1 };
  let view = { ...NOTHING };

  const viewOf = (hash) => {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const page = Number.parseInt(given.get("page") ?? "1", 10);
    return {
      q: given.get("q") ?? "",
      outcome: (given.get("outcome") ?? "").split(",").filter((name) => model.order.includes(name)),
      target: given.get("target") ?? "",
      transform: given.get("transform") ?? "",
      type: given.get("type") ?? "",
      sweep: /^(later|\d+)$/.test(given.get("sweep") ?? "") ? given.get("sweep") : "", // "later": every one but the first
      sort: given.get("sort") ?? "",
      page: page >= 1 ? page : 1,
    };
  };
  const hashOf = (wanted) => {
    const parts = [];
    for (const [name, part] of Object.entries(wanted)) {
      const text = Array.isArray(part) ? part.join(",") : String(part);
      if (text && !(name === "page" && part === 1)) parts.push(`${name}=${encodeURIComponent(text)}`);
    }
    return `#${parts.join("&")}`;
  };

  // -- filtering and order ---------------------------------------------------------------------------------------------

  let haystacks = null;
  const SEARCHED = ["account_id", "region", "transform_id", "transform_name", "task_run_id", "task_type", "outcome",
    "status_before", "status_after", "rule", "error_code", "error_message", "request_id", "labels"].map((name) => at[name]);
  const haystack = (row) => SEARCHED.map((index) => value(row, index) ?? "").join("\n").toLowerCase();

  // An error of a request that was accepted in the end was got over: the unfolded row has it, but it explains nothing.
  const accepted = new Set(model.accepted);
  const explains = (row) => !accepted.has(get(row, "outcome")) || (get(row, "error_message") ?? "").startsWith(model.reading);
  const reason = (row) => explains(row) ? get(row, "error_code") : null;

  const KEYS = {
    outcome: (row) => model.order.indexOf(get(row, "outcome")),
    target,
    transform: (row) => get(row, "transform_name") ?? get(row, "transform_id"),
    status: (row) => get(row, "status_before"),
    error_code: (row) => reason(row) ?? get(row, "rule"),
  };
  const keyOf = (name) => KEYS[name] ?? ((row) => row[at[name]] === null ? null : coded.has(at[name]) ? get(row, name) : row[at[name]]);

  let found = [];
  const search = () => {
    const outcomes = new Set(view.outcome);
    const needle = view.q.trim().toLowerCase();
    if (needle && haystacks === null) haystacks = rows.map(haystack);
    found = [];
    rows.forEach((row, index) => {
      if (outcomes.size && !outcomes.has(get(row, "outcome"))) return;
      if (view.target && target(row) !== view.target) return;
      if (view.transform && get(row, "transform_id") !== view.transform) return;
      if (view.type && get(row, "task_type") !== view.type) return;
      if (view.sweep && (view.sweep === "later" ? row[at.sweep_number] < 2 : String(row[at.sweep_number]) !== view.sweep)) return;
      if (needle && !haystacks[index].includes(needle)) return;
      found.push(index);
    });
    const down = view.sort.startsWith("-");
    const name = view.sort.replace(/^-/, "");
    if (!sortable.has(name)) return;
    const key = keyOf(name);
    const keys = new Map(found.map((index) => [index, key(rows[index])]));
    found.sort((one, other) => {
      const a = keys.get(one), b = keys.get(other);
      if (a === b) return one - other;
      if (a === null) return 1; // what is not known comes last, whichever way
      if (b === null) return -1;
      return (a < b) === down ? 1 : -1;
    });
  };

  // -- drawing ---------------------------------------------------------------------------------------------------------

  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
  const element = (tag, kind, ...children) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    made.append(...children);
    return made;
  };
  // Text from outside: isolated, its unseen characters shown by their names.
  const shown = (text) => {
    const made = document.createElement("bdi");
    let from = 0;
    for (const match of text.matchAll(UNSEEN)) {
      made.append(text.slice(from, match.index));
      const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      made.append(element("span", "unseen", `U+${code}`));
      from = match.index + match[0].length;
    }
    made.append(text.slice(from));
    return made;
  };
  const plain = (text) => text.replace(UNSEEN, "·");
  const label = (outcome) => outcome.replaceAll("_", " ");
  const number = (amount, digits) => amount === null ? "–"
    : amount.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const when = (moment) => moment === null ? "–" : new Date(moment).toISOString().slice(0, 16).replace("T", " ");
  // A type breaks at its underscores, so that its column can be narrow.
  const broken = (text) => {
    const parts = text.split("_").flatMap((part, index) => index ? ["_", document.createElement("wbr"), part] : [part]);
    return element("bdi", "", ...parts);
  };
  // An id is cut in its middle: its two ends tell it from its neighbours. The unfolded row has it whole, and paper too.
  let printing = false;
  const middle = (text) => {
    const characters = Array.from(text);
    return printing ? text : characters.length <= 18 ? text : `${characters.slice(0, 10).join("")}…${characters.slice(-7).join("")}`;
  };
  const clipped = (text, kind) => {
    const made = element("span", kind, shown(kind === "id" ? middle(text) : text));
    made.title = plain(text);
    return made;
  };

  // A run that hangs has no error and no rule: what was last seen of it is the reason.
  const hanging = (row) => {
    const after = get(row, "status_after"), seen = row[at.confirmed_at], asked = row[at.requested_at];
    if (after === null || seen === null || asked === null) return "its end was not seen";
    return `${after} when last read, ${number((seen - asked) / 1000, 1)} s after our request`;
  };

  const draw = (row, index) => {
    const outcome = get(row, "outcome");
    const toggle = element("button", "toggle", element("span", `badge ${model.kinds[outcome]}`, label(outcome)));
    toggle.type = "button";
    toggle.setAttribute("aria-expanded", "false");
    toggle.setAttribute("aria-label", `${label(outcome)}: all that is known of this run`);
    toggle.addEventListener("click", () => unfold(toggle, row, index));
    const transform = element("td", "");
    const name = get(row, "transform_name");
    if (name !== null) transform.append(shown(name), element("br", ""));
    transform.append(clipped(get(row, "transform_id"), "id"));
    const before = get(row, "status_before"), after = get(row, "status_after");
    const status = element("td", "nowrap", before ?? "–");
    if (after !== null && after !== before) status.append(element("br", ""), ` → ${after}`);
    const trouble = element("td", "why");
    const code = reason(row), rule = get(row, "rule");
    if (code !== null) {
      trouble.append(element("strong", "", shown(code)), element("br", ""), clipped(get(row, "error_message") ?? "", "error"));
    } else if (rule !== null) {
      trouble.append(clipped(rule, "error"));
    } else if (outcome === "stuck_stopping") {
      trouble.append(clipped(hanging(row), "error"));
    }
    const cells = [
      element("td", "", toggle),
      element("td", "nowrap", shown(get(row, "account_id") ?? "?"), element("br", ""), shown(get(row, "region"))),
      transform,
      element("td", "", clipped(get(row, "task_run_id"), "id")),
      trouble,
      element("td", "roomy type", broken(get(row, "task_type") ?? "–")),
      element("td", "nowrap started", when(row[at.started_on])),
      status,
      element("td", "num", number(get(row, "stopped_after_seconds"), 1)),
      element("td", "num roomy", number(get(row, "estimated_dpu_hours"), 1)),
    ];
    if (sortable.has("sweep_number")) cells.splice(7, 0, element("td", "num", String(row[at.sweep_number])));
    const line = element("tr", "", ...cells);
    // The whole row unfolds, unless somebody is marking a text in it; for the keyboard there is the button.
    line.addEventListener("click", (event) => {
      if (!event.target.closest("button") && getSelection().isCollapsed) toggle.click();
    });
    return line;
  };

  // What a run need not have: where it is not there, nothing is unknown.
  const ABSENT = new Set(["error_code", "error_message", "rule", "labels"]);
  const unfold = (toggle, row) => {
    const open = toggle.getAttribute("aria-expanded") === "true";
    toggle.setAttribute("aria-expanded", String(!open));
    const line = toggle.closest("tr");
    if (open) {
      line.nextSibling.remove();
      return;
    }
    const list = element("dl", "facts");
    model.fields.forEach((name, index) => {
      const known = value(row, index);
      if (known === null && ABSENT.has(name)) return;
      const text = name === "outcome" ? `${label(known)}: ${model.meanings[known]}` : known === null ? "not known" : String(known);
      list.append(element("div", "", element("dt", "", label(name)), element("dd", "", shown(text))));
    });
    const cell = element("td", "", list);
    cell.colSpan = line.children.length;
    line.after(element("tr", "unfolded", cell));
  };

  const table = byId("runs");
  const sortable = new Set();
  for (const heading of table.tHead.rows[0].cells) {
    const name = heading.dataset.sort;
    sortable.add(name);
    const button = element("button", "", heading.textContent);
    button.type = "button";
    // One click sorts up, the next down, the third goes back to trouble first.
    button.addEventListener("click", () => {
      const next = { [name]: `-${name}`, [`-${name}`]: "" }[view.sort] ?? name;
      change({ sort: next, page: 1 });
    });
    heading.replaceChildren(button);
  }

  const show = () => {
    search();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    view.page = Math.min(view.page, pages);
    const first = printing ? 0 : (view.page - 1) * PAGE;
    const drawn = found.slice(first, first + (printing ? MOST_PRINTED : PAGE));
    table.tBodies[0].replaceChildren(...drawn.map((index) => draw(rows[index], index)));
    for (const heading of table.tHead.rows[0].cells) {
      const name = heading.dataset.sort;
      if (view.sort === name) heading.setAttribute("aria-sort", "ascending");
      else if (view.sort === `-${name}`) heading.setAttribute("aria-sort", "descending");
      else heading.removeAttribute("aria-sort");
    }
    const all = rows.length.toLocaleString("en"), some = found.length.toLocaleString("en");
    byId("count").textContent = found.length === rows.length ? `${all} run${rows.length === 1 ? "" : "s"}` : `${some} of ${all} runs`;
    byId("printed").textContent = drawn.length === found.length ? byId("count").textContent
      : `${byId("count").textContent}; ${drawn.length.toLocaleString("en")} of them are here, and report.csv has them all.`;
    byId("empty").hidden = found.length > 0 || rows.length === 0;
    byId("pages").hidden = pages === 1;
    byId("page").textContent = `Page ${view.page.toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    byId("previous").disabled = view.page === 1;
    byId("following").disabled = view.page === pages;
    byId("clear").disabled = hashOf({ ...view, page: 1 }) === "#";
    byId("download").disabled = found.length === 0;
    byId("link").href = hashOf(view);
  };

  // -- controls --------------------------------------------------------------------------------------------------------

  // The label above says of what it is all: a longer word would not fit beside the count.
  const options = (select, counts, names) => {
    const sorted = [...counts].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
    const made = [new Option(`All (${counts.size.toLocaleString("en")})`, "")];
    for (const [key, count] of sorted.slice(0, MOST_OPTIONS)) {
      made.push(new Option(`${plain(names.get(key) ?? key)} · ${count.toLocaleString("en")}`, key));
    }
    select.replaceChildren(...made);
    select.disabled = counts.size === 0;
  };
  const tally = () => {
    const outcomes = new Map(), targets = new Map(), transforms = new Map(), types = new Map(), sweeps = new Map(), names = new Map();
    const add = (counts, key) => { if (key !== null) counts.set(key, (counts.get(key) ?? 0) + 1); };
    for (const row of rows) {
      add(outcomes, get(row, "outcome"));
      add(targets, target(row));
      add(transforms, get(row, "transform_id"));
      add(types, get(row, "task_type"));
      add(sweeps, String(row[at.sweep_number]));
      const name = get(row, "transform_name");
      if (name !== null) names.set(get(row, "transform_id"), `${name} (${get(row, "transform_id").slice(0, 14)}…)`);
    }
    options(byId("target"), targets, names);
    options(byId("transform"), transforms, names);
    options(byId("type"), types, names);
    options(byId("sweep"), sweeps, names);
    byId("sweep").options[0].after(new Option("2 and later", "later"));
    byId("outcome").replaceChildren(...model.order.filter((name) => outcomes.has(name)).map((name) => {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = name;
      const chip = element("label", "chip", box, element("span", "", label(name)), element("span", "num", number(outcomes.get(name), 0)));
      chip.title = model.meanings[name];
      return chip;
    }));
  };
  const choose = (select, wanted) => {
    // A link may name what the list has been cut before: it stays chosen all the same.
    if (wanted && ![...select.options].some((option) => option.value === wanted)) select.append(new Option(plain(wanted), wanted));
    select.value = wanted;
  };
  const fill = () => {
    if (byId("q").value !== view.q) byId("q").value = view.q;
    choose(byId("target"), view.target);
    choose(byId("transform"), view.transform);
    choose(byId("type"), view.type);
    choose(byId("sweep"), view.sweep);
    for (const box of byId("outcome").querySelectorAll("input")) box.checked = view.outcome.includes(box.value);
  };
  const change = (part) => {
    view = { ...view, ...part };
    show();
    // replace: no step of the history for each letter that is typed
    if (location.hash !== hashOf(view) && !(hashOf(view) === "#" && location.hash === "")) location.replace(hashOf(view));
  };

  let waiting = 0;
  byId("q").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ q: byId("q").value, page: 1 }), 120);
  });
  for (const name of ["target", "transform", "type", "sweep"]) {
    byId(name).addEventListener("change", () => change({ [name]: byId(name).value, page: 1 }));
  }
  byId("outcome").addEventListener("change", () => {
    change({ outcome: [...byId("outcome").querySelectorAll(":checked")].map((box) => box.value), page: 1 });
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    change({ ...NOTHING });
    fill();
    byId("q").focus();
  });
  const turn = (by) => {
    change({ page: view.page + by });
    byId("runs-heading").focus();
  };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("following").addEventListener("click", () => turn(1));
  window.addEventListener("hashchange", () => {
    const wanted = viewOf(location.hash);
    if (hashOf(wanted) === hashOf(view)) return;
    view = wanted;
    fill();
    show();
    byId("explorer").scrollIntoView();
  });

  // -- paper: every run that fits the filters, up to a bound, with its whole ids ---------------------------------------

  for (const [name, on] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(name, () => {
      printing = on;
      show();
    });
  }

  // -- download --------------------------------------------------------------------------------------------------------

  const cell = (known) => {
    if (known === null) return "";
    let text = String(known);
    if (typeof known === "string" && model.formula_starts.some((start) => text.startsWith(start))) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  byId("download").addEventListener("click", () => {
    const lines = [`${model.fields.join(",")}\r\n`];
    for (const index of found) lines.push(`${model.fields.map((_, field) => cell(value(rows[index], field))).join(",")}\r\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
    link.download = model.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });

  document.documentElement.classList.add("js");
  tally();
  view = viewOf(location.hash);
  fill();
  show();
  byId("controls").hidden = false;
  if (location.hash.includes("=")) byId("explorer").scrollIntoView();
})();
