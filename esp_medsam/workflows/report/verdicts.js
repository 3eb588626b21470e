// Verdicts: kept in the browser, and exported and imported as CSV (RFC 4180) and JSON.

const UTF8_MARK = "\ufeff"; // spreadsheets read CSV as UTF-8 only with it

function guarded(text, first) {
  return text && first.includes(text[0]) ? `'${text}` : text;
}

function unguarded(cell, first) {
  return cell.length > 1 && cell[0] === "'" && first.includes(cell[1]) ? cell.slice(1) : cell;
}

function csvOf(rows, fields, first) {
  const cell = (text) => {
    const safe = guarded(text, first);
    return /[",;\t\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [fields, ...rows.map((row) => fields.map((name) => row[name]))];
  return UTF8_MARK + lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
}

function cellsOf(text, separator) {
  const rows = [[]];
  let place = 0;
  while (place < text.length) {
    let cell = "";
    if (text[place] === '"') {
      place += 1;
      for (;;) {
        const at = text.indexOf('"', place);
        if (at < 0) throw new Error("A quote is not closed.");
        cell += text.slice(place, at);
        place = at + 1;
        if (text[place] !== '"') break;
        cell += '"';
        place += 1;
      }
    } else {
      const from = place;
      while (place < text.length && text[place] !== separator && !"\r\n".includes(text[place])) place += 1;
      cell = text.slice(from, place);
    }
    rows.at(-1).push(cell);
    if (text[place] === separator) {
      place += 1;
      if (place === text.length) rows.at(-1).push("");
    } else {
      if (text[place] === "\r" && text[place + 1] === "\n") place += 1;
      place += 1;
      if (place < text.length) rows.push([]);
    }
  }
  return rows;
}

function rowsOfCsv(text, first) {
  const plain = text.startsWith(UTF8_MARK) ? text.slice(1) : text;
  const head = plain.split("\n", 1)[0];
  const separator = [",", ";", "\t"].sort((a, b) => head.split(b).length - head.split(a).length)[0];
  const [names, ...rows] = cellsOf(plain, separator);
  const known = (names ?? []).map((name) => name.trim().toLowerCase());
  if (!known.includes("item") || !known.includes("verdict")) {
    throw new Error("The first line must name the columns item and verdict.");
  }
  return rows
    .filter((row) => row.some(Boolean))
    .map((row) => Object.fromEntries(known.map((name, i) => [name, unguarded(row[i] ?? "", first)])));
}

function rowsOfJson(text) {
  const rows = JSON.parse(text).verdicts;
  if (!Array.isArray(rows)) throw new Error("The file must have a list of verdicts.");
  return rows;
}

class Verdicts {
  // A mark belongs to one result: if that was made anew since, the mark is kept but not shown.
  constructor(data) {
    this.data = data;
    this.marks = new Map();
    this.isKept = true;
    this.read();
  }

  key(one) {
    return JSON.stringify([this.data.folders[one.folder], one.record ?? "", one.record ? "" : one.item]);
  }

  read() {
    try {
      const held = JSON.parse(localStorage.getItem(this.data.key) ?? "[]");
      this.marks = new Map(Array.isArray(held) ? held : []);
    } catch {
      this.isKept = false;
    }
  }

  write() {
    try {
      localStorage.setItem(this.data.key, JSON.stringify([...this.marks]));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
  }

  of(one) {
    const held = this.marks.get(this.key(one));
    const isOfThis = held && held.result === (one.record_sha256 ?? "");
    return isOfThis ? held : { verdict: "", note: "", earlier: held?.verdict ?? "" };
  }

  set(one, change, { later = false } = {}) {
    const { verdict, note } = { ...this.of(one), ...change };
    if (verdict || note) this.marks.set(this.key(one), { verdict, note, result: one.record_sha256 ?? "" });
    else this.marks.delete(this.key(one));
    if (!later) this.write();
  }

  rows() {
    return this.data.cases
      .map((one) => ({ one, ...this.of(one) }))
      .filter(({ verdict, note }) => verdict || note)
      .map(({ one, verdict, note }) => ({
        item: one.item,
        verdict,
        note,
        folder: this.data.folders[one.folder],
        record: one.record ?? "",
        sha256: one.sha256 ?? "",
        record_sha256: one.record_sha256 ?? "",
      }));
  }

  asCsv() {
    return csvOf(this.rows(), this.data.fields, this.data.guarded);
  }

  asJson() {
    const { software } = this.data;
    return `${JSON.stringify({ software, schema: 1, verdicts: this.rows() }, null, 1)}\n`;
  }

  take(text, name) {
    const rows = /\.json$/i.test(name) ? rowsOfJson(text) : rowsOfCsv(text, this.data.guarded);
    const byPlace = new Map();
    for (const one of this.data.cases) {
      const folder = this.data.folders[one.folder];
      for (const place of [one.record, one.item]) {
        byPlace.set(`${folder}\n${place}`, one);
        byPlace.set(`\n${place}`, byPlace.has(`\n${place}`) ? null : one);
      }
    }
    const counts = { taken: 0, unknown: 0, earlier: 0 };
    for (const row of rows) {
      const verdict = String(row.verdict ?? "").trim().toLowerCase().replace("artifact", "artefact");
      if (verdict && !this.data.verdicts.includes(verdict)) throw new Error(`There is no verdict ${verdict}.`);
      const place = row.record || row.item;
      const one = byPlace.get(`${row.folder ?? ""}\n${place}`) ?? byPlace.get(`\n${place}`);
      if (!one) counts.unknown += 1;
      else if (row.record_sha256 && row.record_sha256 !== one.record_sha256) counts.earlier += 1;
      else {
        this.set(one, { verdict, note: String(row.note ?? "") }, { later: true });
        counts.taken += 1;
      }
    }
    this.write();
    return counts;
  }
}
