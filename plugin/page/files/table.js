// SPDX-License-Identifier: Apache-2.0

// The table of endpoints: sorted, filtered, and walked through with the keyboard.

import { byId, el, setText } from './dom.js';
import { model } from './model.js';
import { addressOrder, driftOf, linkOf, nameOf, networkOf, rate } from './text.js';

const rateOf = (way) => (e) => model.rateOf(e.id, way);

// Columns have a text, and an order if that is not the text's. Some are hidden where the page is narrow.
const columns = [
  { key: 'name', label: 'Container', text: nameOf },
  { key: 'network', label: 'Network', text: networkOf },
  { key: 'addresses', label: 'Addresses', text: (e) => e.addresses.join(' '), order: addressOrder },
  { key: 'mac', label: 'MAC', text: (e) => e.mac },
  { key: 'host', label: 'Host', text: (e) => e.host || '–' },
  { key: 'hostend', label: 'Host end', text: (e) => e.hostEnd || '–' },
  { key: 'link', label: 'Link', text: (e) => linkOf(e, model.traffic) },
  { key: 'state', label: 'State', text: (e) => (e.stale ? 'not known' : e.state || '–') },
  { key: 'drift', label: 'Drift', text: driftOf },
  { key: 'sent', label: 'Sent', text: (e) => rate(rateOf('sent')(e)), order: rateOf('sent'), number: true },
  { key: 'received', label: 'Received', text: (e) => rate(rateOf('received')(e)), order: rateOf('received'), number: true },
];

const good = { link: ['up', '–', '…'], state: ['up', '–'], drift: ['none', '–', '…'] };

const table = byId('table');
const body = table.tBodies[0];
const filter = byId('filter');
const sorted = { by: columns[1], down: false };
const rows = new Map(); // by id of the endpoint: {tr, button, texts, cells}
let shown = []; // ids of the endpoints in the table
let current = ''; // id of the one that the keyboard is at

function compare(a, b) {
  const order = sorted.by.order || sorted.by.text;
  const [x, y] = [order(a), order(b)];
  let result;
  if (sorted.by.number) result = (x ?? -1) - (y ?? -1);
  else result = x < y ? -1 : x > y ? 1 : 0;
  return sorted.down ? -result : result;
}

function matches(e, words) {
  if (words.length === 0) return true;
  const text = columns.map((c) => c.text(e)).join(' ').toLowerCase();
  return words.every((w) => text.includes(w));
}

// select lists the endpoints that the filter lets through, in order. Equal ones stay in the order of the API: by network
// and address.
function select() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  return [...model.endpoints.values()].filter((e) => matches(e, words)).sort(compare);
}

function newRow(e) {
  const button = el('button', { type: 'button', tabIndex: -1 });
  button.addEventListener('click', () => model.select(e.id));
  button.addEventListener('focus', () => moveTo(e.id));
  const cells = columns.map((c, i) => (i === 0
    ? el('th', { scope: 'row', className: c.key }, button)
    : el('td', { className: c.key })));
  const tr = el('tr', {}, ...cells);
  tr.dataset.id = e.id;
  tr.addEventListener('click', (event) => event.target === button || (button.focus(), model.select(e.id)));
  const row = { tr, button, cells, texts: [] };
  rows.set(e.id, row);
  return row;
}

// fill writes into a row what has changed.
function fill(row, e) {
  columns.forEach((c, i) => {
    const text = c.text(e);
    if (row.texts[i] === text) return;
    row.texts[i] = text;
    setText(i === 0 ? row.button : row.cells[i], text);
    row.cells[i].title = text;
    if (good[c.key]) row.cells[i].classList.toggle('bad', !good[c.key].includes(text));
  });
  const isSelected = model.selected === e.id;
  if ((row.tr.className === 'selected') !== isSelected) {
    row.tr.className = isSelected ? 'selected' : '';
    if (isSelected) row.button.setAttribute('aria-current', 'true');
    else row.button.removeAttribute('aria-current');
  }
}

// render brings the table in line with the model. Rows that are there already stay the same elements.
function render() {
  const list = select();
  shown = list.map((e) => e.id);
  let next = body.firstChild;
  for (const e of list) {
    const row = rows.get(e.id) || newRow(e);
    fill(row, e);
    if (row.tr === next) next = next.nextSibling;
    else body.insertBefore(row.tr, next);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
  for (const id of rows.keys()) if (!model.endpoints.has(id)) rows.delete(id);
  if (!shown.includes(current)) moveTo(shown[0]);
  const all = model.endpoints.size;
  setText(byId('count'), shown.length === all ? `${all} endpoints` : `${shown.length} of ${all} endpoints`);
  table.classList.toggle('cluster', model.hosts.length > 0);
}

// moveTo makes one row's button the one that Tab leads to.
function moveTo(id) {
  const before = rows.get(current);
  if (before) before.button.tabIndex = -1;
  current = id || '';
  const row = rows.get(current);
  if (row) row.button.tabIndex = 0;
  return row;
}

const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity };

function key(event) {
  const step = steps[event.key];
  if (!step || shown.length === 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const at = event.target === filter ? -1 : shown.indexOf(current);
  const to = Math.min(Math.max(at + step, 0), shown.length - 1);
  moveTo(shown[to]).button.focus();
}

function sortBy(column) {
  sorted.down = sorted.by === column ? !sorted.down : Boolean(column.number);
  sorted.by = column;
  showOrder();
  render();
}

function showOrder() {
  for (const c of columns) {
    if (c !== sorted.by) c.head.removeAttribute('aria-sort');
    else c.head.setAttribute('aria-sort', sorted.down ? 'descending' : 'ascending');
  }
}

export function start() {
  for (const c of columns) {
    const button = el('button', { type: 'button' }, c.label);
    button.addEventListener('click', () => sortBy(c));
    c.head = el('th', { scope: 'col', className: c.key }, button);
    table.tHead.rows[0].append(c.head);
  }
  showOrder();
  filter.addEventListener('input', render);
  filter.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') key(event);
    if (event.key === 'Escape') {
      filter.value = '';
      render();
    }
  });
  body.addEventListener('keydown', key);
  document.addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.target.matches('input') || byId('endpoints').hidden) return;
    event.preventDefault();
    filter.focus();
    filter.select();
  });
  model.addEventListener('change', () => byId('endpoints').hidden || render());
  return render;
}
