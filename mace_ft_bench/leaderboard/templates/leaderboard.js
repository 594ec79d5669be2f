// Sorting, filtering, links to a selection, copying. Without it the page shows everything, in the order given.
"use strict";
(() => {
  const PLACE = "#results";
  const table = document.getElementById("results-table");

  function makeResults() {
    const body = table.tBodies[0];
    const rows = [...body.rows]; // in the order given, which is that of no sorting
    const heads = [...table.tHead.rows[0].cells];
    const filters = document.getElementById("filters");
    const fields = ["q", "study", "model", "status", "kind"].map((name) => filters.elements[name]);
    const count = document.getElementById("results-count");
    const link = document.getElementById("results-link");
    let sort = "";
    let descending = false;
    let order = ""; // of the rows in the table

    const texts = rows.map((row) => row.textContent.toLowerCase());

    function key(row, column) {
      const cell = row.cells[column];
      const type = heads[column].dataset.type;
      if (!type) return cell.textContent.trim().toLowerCase();
      if (cell.dataset.v === "") return null;
      return type === "magnitude" ? Math.abs(Number(cell.dataset.v)) : Number(cell.dataset.v);
    }

    function compare(a, b) {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null); // no number comes last
      const order = typeof a.key === "number" ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
      return descending ? -order : order;
    }

    function sorted() {
      const column = heads.findIndex((head) => head.dataset.key === sort);
      if (column < 0) return rows;
      return rows
        .map((row) => ({ row, key: key(row, column) }))
        .sort(compare)
        .map((entry) => entry.row);
    }

    function fits(row, index) {
      const words = filters.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = ["study", "model", "status", "kind"].every((name) => {
        const wanted = filters.elements[name].value;
        return !wanted || row.dataset[name] === wanted;
      });
      return chosen && words.every((word) => texts[index].includes(word));
    }

    function address() {
      const state = new URLSearchParams();
      for (const field of fields) if (field.value) state.set(field.name, field.value);
      if (sort) state.set("sort", sort);
      if (sort && descending) state.set("order", "descending");
      return state.size ? `${PLACE}?${state}` : PLACE;
    }

    function show() {
      let shown = 0;
      rows.forEach((row, index) => {
        row.hidden = !fits(row, index);
        shown += !row.hidden;
      });
      const wanted = sort && `${sort} ${descending}`;
      if (wanted !== order) body.append(...sorted());
      order = wanted;
      for (const head of heads) {
        const mine = head.dataset.key === sort;
        head.setAttribute("aria-sort", mine ? (descending ? "descending" : "ascending") : "none");
      }
      count.textContent = `${shown} of ${rows.length} results`;
      link.href = address();
    }

    function changed() {
      show();
      history.replaceState(null, "", address());
    }

    function read() {
      const [place, query] = location.hash.split("?");
      if (place !== PLACE) return;
      const state = new URLSearchParams(query);
      for (const field of fields) {
        const value = state.get(field.name) || "";
        field.value = value;
        if (field.value !== value) field.value = ""; // a choice that this page does not have
      }
      sort = heads.some((head) => head.dataset.key === state.get("sort")) ? state.get("sort") : "";
      descending = state.get("order") === "descending";
      show();
      document.getElementById("results").scrollIntoView();
    }

    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => {
        descending = sort === head.dataset.key && !descending;
        sort = head.dataset.key;
        changed();
      });
      head.append(button);
    }
    filters.hidden = false;
    filters.addEventListener("input", changed);
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("reset", (event) => {
      event.preventDefault();
      for (const field of fields) field.value = "";
      sort = "";
      changed();
    });
    window.addEventListener("hashchange", read);
    show();
    read();
  }

  async function copy(button) {
    const code = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code); // the clipboard is closed to this page: one key is left to press
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 2000);
  }

  if (table) makeResults();
  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
})();
