// The page: filters, the details of a case, marks, keys.

const data = window.espMedsamReport ?? JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const verdicts = new Verdicts(data);
const UNITS = { ml: "ml", mm2: "mm\u00b2", pixels: "px" };
const MOST_COLUMNS = 5;
const TEXT_OF = { interrupted: "The run was ended while it was at this item.", running: "A run is at this item, or was killed there." };

data.cases.forEach((one, place) => {
  one.place = place;
  one.byName = new Map((one.targets ?? []).map((target) => [target.name, target]));
  const told = [one.item, one.record, data.folders[one.folder], one.code, one.message, one.status];
  one.text = [...told, ...(one.warnings ?? [])].join("\n").toLowerCase();
});

const shown = (value) => {
  if (value === undefined || value === null) return "";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
};
const words = (name) => name.replaceAll("_", " ");
const classOf = (finding) => finding.replaceAll(" ", "-");

// Columns

function columnsFor(modality) {
  const wanted = data.columns.filter((one) => !modality || one.modality === modality);
  const of = (one, name) => (row) => (row.modality === one.modality ? row.byName.get(one.target)?.[name] : undefined);
  const targets = (wanted.length <= MOST_COLUMNS ? wanted : []).map((one) => ({
    id: "size",
    title: `${words(one.target)} (${UNITS[one.unit]})`,
    about: `Size of ${words(one.target)} of ${one.modality}`,
    class: "n",
    key: of(one, "size"),
  }));
  return [
    { id: "place", title: "#", about: "What should be looked at first", class: "n", key: (row) => row.place },
    { id: "picture", title: "Preview", class: "picture" },
    { id: "item", title: "Case", about: "Name of the case", key: (row) => row.item },
    { id: "verdict", title: "Verdict", about: "What you marked it as", key: (row) => verdicts.of(row).verdict },
    ...(modality || new Set(data.cases.map((one) => one.modality)).size < 2
      ? []
      : [{ id: "modality", title: "Modality", key: (row) => row.modality }]),
    { id: "findings", title: "Findings", about: "What makes it worth a look", key: (row) => row.findings?.length ? data.findings.indexOf(row.findings[0]) : undefined },
    { id: "confidence", title: "Confidence", about: "Lowest mean probability inside a mask", class: "n", key: (row) => row.confidence },
    ...targets,
  ];
}

function badge(finding) {
  return make("span", { class: `badge ${classOf(finding)}` }, finding);
}

function cells(row, columns) {
  const draw = {
    place: () => [String(row.place + 1)],
    picture: () => [row.thumbnail ? make("img", { src: row.thumbnail, alt: "", loading: "lazy", decoding: "async" }) : make("span", { class: "blank" })],
    item: () => {
      const folder = data.folders.length > 1 ? data.folders[row.folder] : "";
      const below = row.code || (row.status === "done" ? "" : row.status);
      return [make("b", { title: row.item }, row.item), make("small", {}, [folder, below].filter(Boolean).join(" \u00b7 "))];
    },
    modality: () => [row.modality ?? ""],
    findings: () => (row.findings ?? []).map(badge),
    confidence: () => [row.confidence === undefined ? "" : row.confidence.toFixed(2)],
    verdict: () => {
      const { verdict, note } = verdicts.of(row);
      return [verdict ? make("span", { class: `verdict ${verdict}` }, verdict) : "", note ? make("span", { class: "noted", title: note }, "note") : ""];
    },
  };
  return columns.map((column) => make("td", { class: column.class ?? column.id }, ...(draw[column.id]?.() ?? [shown(column.key(row))])));
}

// Filters

function isChosen(row) {
  const { verdict, note } = verdicts.of(row);
  const wanted = at("by-verdict").value;
  return (
    (!filters.search || row.text.includes(filters.search) || note.toLowerCase().includes(filters.search)) &&
    (!filters.folder || String(row.folder) === filters.folder) &&
    (!filters.modality || row.modality === filters.modality) &&
    (!filters.finding || row.findings?.includes(filters.finding)) &&
    (!wanted || verdict === (wanted === "none" ? "" : wanted))
  );
}

let filters = {};

function filter(kept) {
  const modality = at("by-modality").value;
  if (modality !== filters.modality) table.setColumns(columnsFor(modality));
  filters = {
    search: at("search").value.trim().toLowerCase(),
    folder: at("by-folder").value,
    finding: at("by-finding").value,
    modality,
  };
  const rows = data.cases.filter(isChosen);
  table.show(rows, kept);
  at("count").textContent = rows.length === data.cases.length ? `${rows.length}` : `${rows.length} of ${data.cases.length}`;
  at("nothing").hidden = rows.length > 0;
  for (const tile of document.querySelectorAll(".tile")) {
    tile.setAttribute("aria-pressed", String(tile.dataset.finding === filters.finding));
  }
}

function clear() {
  at("search").value = "";
  for (const name of ["folder", "modality", "finding", "verdict"]) at(`by-${name}`).value = "";
  filter();
}

// The selected case

function details(row) {
  if (row === details.row) return;
  details.row = row;
  if (!row) return at("details").replaceChildren(make("p", { class: "hint" }, "No case is selected."));
  const { note } = verdicts.of(row);
  const field = make("textarea", {
    id: "note", rows: 2, maxlength: 2000, placeholder: "Note (n)", "aria-label": "Note",
    oninput: () => { verdicts.set(row, { note: field.value }); tell(); },
    onchange: () => table.draw(),
  });
  field.value = note;
  at("details").replaceChildren(
    make("h3", {}, row.item),
    make("p", { class: "where" }, [data.folders[row.folder], row.record].filter(Boolean).join("/")),
    make("div", { id: "marks", class: "marks", role: "group", "aria-label": "Verdict" }),
    field,
    picture(row),
    ...failure(row),
    ...(row.warnings ?? []).map((text) => make("p", { class: "warning" }, text)),
    ...targets(row),
    facts(row),
  );
  marks(row);
}

function marks(row) {
  const { verdict, earlier } = verdicts.of(row);
  at("marks").replaceChildren(
    ...data.verdicts.map((name) =>
      make("button", { type: "button", class: name, "aria-pressed": String(verdict === name), "aria-keyshortcuts": name[0], onclick: () => mark(name) },
        name, make("kbd", {}, name[0]))),
    ...(earlier ? [make("small", {}, `An earlier result was marked ${earlier}.`)] : []),
  );
}

function picture(row) {
  if (!row.thumbnail) {
    const why = row.preview ? "The preview cannot be shown here." : row.record ? "No preview was written: segment with --preview." : "There is no result.";
    return make("p", { class: "blank" }, why);
  }
  const image = make("img", { src: row.thumbnail, alt: `Preview of ${row.item}` });
  if (window.espMedsamReport && row.preview) { // in a folder, the preview itself lies near by
    image.addEventListener("error", () => { image.src = row.thumbnail; }, { once: true });
    image.src = row.preview;
  }
  return row.preview
    ? make("a", { id: "preview", class: "preview", href: row.preview, target: "_blank", rel: "noopener", title: "Open the preview in full size (o)" }, image)
    : make("div", { class: "preview" }, image);
}

function failure(row) {
  if (!row.code && row.status === "done") return [];
  const cause = row.code || row.status;
  const text = row.message || TEXT_OF[row.status] || "";
  const [, remedy] = data.causes[cause] ?? [];
  return [
    make("p", { class: "failure" }, make("code", {}, cause), " ", text),
    ...(row.record && row.code ? [make("p", { class: "hint" }, "This result is of an earlier run; the latest one failed.")] : []),
    ...(remedy ? [make("p", { class: "remedy" }, make("b", {}, "Remedy: "), remedy)] : []),
  ];
}

function targets(row) {
  if (!row.targets?.length) return [];
  const has = (name) => row.targets.some((one) => one[name] !== undefined);
  const statistics = [...new Set(row.targets.flatMap((one) => Object.keys(one.statistics ?? {})))];
  const head = ["Target", "Size", "Confidence", ...(has("dice") ? ["Dice to expect"] : [])];
  const lines = row.targets.map((one) => [
    make("b", {}, words(one.name)),
    one.voxels ? `${shown(one.size ?? one.voxels)} ${one.size === undefined ? "px" : UNITS[one.unit]}` : "not found",
    one.confidence?.toFixed(2) ?? "",
    ...(has("dice") ? [one.dice?.toFixed(2) ?? ""] : []),
  ]);
  const row_of = (tag, line) => make("tr", {}, ...line.map((one, place) => make(tag, { class: place ? "n" : undefined }, one)));
  const table = make("table", { class: "targets" }, make("thead", {}, row_of("th", head)), make("tbody", {}, ...lines.map((line) => row_of("td", line))));
  if (!statistics.length) return [table];
  const more = make("table", { class: "targets" },
    make("thead", {}, row_of("th", ["Statistics", ...row.targets.map((one) => words(one.name))])),
    make("tbody", {}, ...statistics.map((name) => row_of("td", [words(name), ...row.targets.map((one) => shown(one.statistics?.[name]))]))));
  return [table, make("details", {}, make("summary", {}, "Statistics"), more)];
}

function facts(row) {
  const told = {
    modality: row.modality,
    plausibility: row.plausibility === undefined ? "" : `${row.plausibility} (above 1 is unusual)`,
    attempts: row.attempts,
    "input SHA-256": row.sha256?.slice(0, 16),
  };
  const pairs = Object.entries(told).filter(([, value]) => value);
  return make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

// Marks

function mark(verdict) {
  const row = table.rows[table.selected];
  if (!row) return;
  const place = table.selected;
  verdicts.set(row, { verdict: verdicts.of(row).verdict === verdict ? "" : verdict });
  const isMarked = verdicts.of(row).verdict !== "";
  if (at("by-verdict").value) {
    filter();
    table.select(place);
  } else if (isMarked && place + 1 < table.rows.length) table.select(place + 1);
  else {
    marks(row);
    table.draw();
  }
  tell();
  at("told").hidden = true;
}

function tell() {
  const counts = Object.fromEntries(data.verdicts.map((name) => [name, 0]));
  for (const one of data.cases) {
    const { verdict } = verdicts.of(one);
    if (verdict) counts[verdict] += 1;
  }
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const parts = data.verdicts.filter((name) => counts[name]).map((name) => `${counts[name]} ${name}`);
  at("reviewed").textContent = `${total} of ${data.cases.length} reviewed${parts.length ? `: ${parts.join(", ")}` : ""}`;
  const bar = document.querySelector(".progress");
  bar.setAttribute("aria-valuenow", total);
  for (const name of data.verdicts) bar.querySelector(`.${name}`).style.width = `${(100 * counts[name]) / data.cases.length}%`;
  if (!verdicts.isKept) say("This browser keeps no verdicts: export them before you close the page.", true);
}

function say(text, isWrong = false) {
  at("told").textContent = text;
  at("told").className = isWrong ? "notice" : "";
  at("told").hidden = false;
}

function download(text, name, kind) {
  const count = verdicts.rows().length;
  if (!count) return say("Nothing is marked yet.", true);
  const address = URL.createObjectURL(new Blob([text], { type: `${kind};charset=utf-8` }));
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`${count} verdicts and notes were exported to ${name}.`);
}

async function take(file) {
  try {
    const { taken, unknown, earlier } = verdicts.take(await file.text(), file.name);
    const left = [unknown ? `${unknown} of cases that are not here` : "", earlier ? `${earlier} of earlier results` : ""].filter(Boolean);
    say(`${taken} verdicts were imported${left.length ? `; left out: ${left.join(", ")}` : ""}.`, left.length > 0);
  } catch (error) {
    say(`${file.name} cannot be imported. ${error.message}`, true);
  }
  refresh();
}

function refresh() {
  details.row = undefined;
  filter();
  tell();
}

// Keys

const MOVES = { j: 1, k: -1 };
const MOVES_IN_TABLE = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

function pressed(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  if (key === "Escape" && target.closest("#details, .bar")) return table.table.focus();
  if (target.matches("input, textarea, select")) return;
  const move = MOVES[key] ?? (table.table.contains(target) ? (MOVES_IN_TABLE[key] ?? { PageDown: table.inSight, PageUp: -table.inSight }[key]) : undefined);
  const verdict = data.verdicts.find((name) => name[0] === key);
  if (move !== undefined) {
    table.select(Math.min(Math.max(table.selected + move, 0), table.rows.length - 1));
    at(`row-${table.selected}`)?.scrollIntoView({ block: "nearest" }); // the page itself may be scrolled
  } else if (verdict) mark(verdict);
  else if (key === "u" && verdicts.of(table.rows[table.selected] ?? {}).verdict) mark(verdicts.of(table.rows[table.selected]).verdict);
  else if (key === "n") at("note")?.focus();
  else if (key === "o") at("preview")?.click();
  else if (key === "/") at("search").focus();
  else if (key === "?") at("help").showModal();
  else return;
  event.preventDefault();
}

const table = new Table({
  sheet: at("sheet"), table: at("table"), head: at("head"), body: at("body"),
  columns: columnsFor(""), cells, choose: details,
});
filters.modality = "";
document.addEventListener("keydown", pressed);
at("search").addEventListener("input", () => filter());
for (const name of ["folder", "modality", "finding", "verdict"]) at(`by-${name}`).addEventListener("change", () => filter());
at("by-folder").closest("label").hidden = data.folders.length < 2;
at("by-modality").closest("label").hidden = at("by-modality").options.length < 3;
for (const tile of document.querySelectorAll(".tile")) {
  tile.addEventListener("click", () => { at("by-finding").value = tile.dataset.finding; filter(); });
}
at("clear").addEventListener("click", clear);
at("export-csv").addEventListener("click", () => download(verdicts.asCsv(), "verdicts.csv", "text/csv"));
at("export-json").addEventListener("click", () => download(verdicts.asJson(), "verdicts.json", "application/json"));
at("import").addEventListener("click", () => at("import-file").click());
at("import-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) take(file);
});
at("help-open").addEventListener("click", () => at("help").showModal());
addEventListener("storage", (event) => {
  if (event.key !== data.key) return;
  verdicts.read();
  refresh();
});
refresh();
