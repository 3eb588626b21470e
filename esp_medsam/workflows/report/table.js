// A table of many rows, of which only those in sight are drawn.

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const HEIGHT_OF_ROW = 58;
const BEYOND = 8; // rows drawn above and below those in sight
const MOST_PRINTED = 2000;

class Table {
  constructor({ sheet, table, head, body, columns, cells, choose }) {
    Object.assign(this, { sheet, table, head, body, cells, choose });
    this.rows = [];
    this.selected = -1;
    this.order = { column: 0, isDown: false };
    this.setColumns(columns);
    sheet.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
    new ResizeObserver(() => this.draw()).observe(sheet);
    addEventListener("beforeprint", () => this.draw(true));
    addEventListener("afterprint", () => this.draw());
  }

  setColumns(columns) {
    this.columns = columns;
    if (this.order.column >= columns.length) this.order = { column: 0, isDown: false };
    this.head.replaceChildren(
      ...columns.map((column, place) => {
        const state = place === this.order.column ? (this.order.isDown ? "descending" : "ascending") : "none";
        const shown = column.key
          ? make("button", { type: "button", onclick: () => this.sortBy(place), title: column.about }, column.title)
          : make("span", { class: "hidden" }, column.title);
        return make("th", { scope: "col", class: column.class, "aria-sort": column.key ? state : undefined }, shown);
      }),
    );
    this.table.setAttribute("aria-colcount", columns.length);
  }

  sortBy(place) {
    const isSame = place === this.order.column;
    this.order = { column: place, isDown: isSame ? !this.order.isDown : false };
    this.setColumns(this.columns);
    this.show(this.rows);
  }

  // Numbers come first, then text; what a row lacks comes last, in both directions.
  sorted(rows) {
    const { key } = this.columns[this.order.column];
    const sign = this.order.isDown ? -1 : 1;
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    const held = rows.map((row) => [key(row), row]);
    const lacks = (value) => value === undefined || value === null || value === "";
    held.sort(([a, first], [b, second]) => {
      if (lacks(a) || lacks(b)) return lacks(a) - lacks(b) || first.place - second.place;
      const order = typeof a === "number" ? a - b : compare(a, b);
      return sign * order || first.place - second.place;
    });
    return held.map(([, row]) => row);
  }

  show(rows, kept = this.rows[this.selected]) {
    this.rows = this.sorted(rows);
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    this.select(Math.max(0, this.rows.indexOf(kept)));
  }

  select(place) {
    this.selected = Math.min(Math.max(place, 0), this.rows.length - 1);
    this.reveal();
    this.draw();
    this.choose(this.rows[this.selected]);
  }

  reveal() {
    const top = this.selected * HEIGHT_OF_ROW;
    const inSight = this.sheet.clientHeight - this.head.offsetHeight - HEIGHT_OF_ROW;
    if (top < this.sheet.scrollTop) this.sheet.scrollTop = Math.max(0, top);
    else if (top > this.sheet.scrollTop + inSight) this.sheet.scrollTop = top - inSight;
  }

  get inSight() {
    return Math.max(1, Math.floor((this.sheet.clientHeight - this.head.offsetHeight) / HEIGHT_OF_ROW));
  }

  draw(isAll = false) {
    const first = isAll ? 0 : Math.max(0, Math.floor(this.sheet.scrollTop / HEIGHT_OF_ROW) - BEYOND);
    const last = isAll ? MOST_PRINTED : first + this.inSight + 2 * BEYOND;
    const rows = this.rows.slice(first, last).map((row, i) => this.row(row, first + i));
    const spacer = (count) => {
      const line = make("tr", { class: "spacer", "aria-hidden": "true" }, make("td", { colspan: this.columns.length }));
      line.firstChild.style.height = `${count * HEIGHT_OF_ROW}px`;
      return line;
    };
    const after = Math.max(0, this.rows.length - last);
    this.body.replaceChildren(
      ...(first ? [spacer(first)] : []),
      ...rows,
      ...(after ? [spacer(after)] : []),
    );
    if (this.rows.length) this.table.setAttribute("aria-activedescendant", `row-${this.selected}`);
    else this.table.removeAttribute("aria-activedescendant");
  }

  row(row, place) {
    const isSelected = place === this.selected;
    return make(
      "tr",
      {
        id: `row-${place}`,
        "aria-rowindex": place + 2,
        "aria-selected": String(isSelected),
        class: isSelected ? "selected" : undefined,
        onclick: () => {
          this.table.focus({ preventScroll: true });
          this.select(place);
        },
      },
      ...this.cells(row, this.columns),
    );
  }
}
