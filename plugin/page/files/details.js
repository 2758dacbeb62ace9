// SPDX-License-Identifier: Apache-2.0

// The endpoint that is selected: all that is known of it, and its traffic of the last minutes.

import { byId, el, setText } from './dom.js';
import { model } from './model.js';
import { chart } from './chart.js';
import { bytes, driftOf, linkOf, nameOf, networkOf, outOf, rate, short } from './text.js';

const panel = byId('details');
const traffic = (e) => model.traffic?.get(e.id);

function dropped(e) {
  const t = traffic(e);
  return t ? `${t.sentDropped} sent, ${t.receivedDropped} received` : '–';
}

const facts = [
  ['Network', networkOf],
  ['Addresses', (e) => e.addresses.join(', ') || 'none'],
  ['MAC', (e) => e.mac],
  ['Way out', (e) => outOf(e, model.networks.get(e.networkId))],
  ['Host', (e) => (e.remote ? `${e.host}, another host` : e.host || 'this one')],
  ['Bridge', (e) => e.bridge || '–'],
  ['Host end', (e) => e.hostEnd || '–'],
  ['Link', (e) => linkOf(e, model.traffic)],
  ['State', (e) => e.state || '–'],
  ['Drift', driftOf],
  ['Sent', (e) => `${rate(model.rateOf(e.id, 'sent'))}, ${bytes(traffic(e)?.sentBytes || 0)} in all`],
  ['Received', (e) => `${rate(model.rateOf(e.id, 'received'))}, ${bytes(traffic(e)?.receivedBytes || 0)} in all`],
  ['Dropped packets', dropped],
  ['Container', (e) => short(e.containerId) || '–'],
  ['Endpoint', (e) => short(e.id)],
];

let values = []; // elements of the facts
let title;
let picture;
let of = ''; // id of the endpoint that the panel is of

function build(actions) {
  title = el('h2');
  const close = el('button', { type: 'button', className: 'close', 'aria-label': 'Close' }, '×');
  close.addEventListener('click', () => {
    const row = byId('table').querySelector('[aria-current=true]');
    model.select('');
    row?.focus();
  });
  values = facts.map(() => el('dd'));
  const buttons = Object.entries(actions).map(([label, act]) => {
    const button = el('button', { type: 'button' }, label);
    button.addEventListener('click', () => act(nameOf(model.endpoints.get(of))));
    return button;
  });
  picture = el('div', { className: 'chart' });
  panel.append(close, title, el('p', { className: 'actions' }, ...buttons), picture,
    el('dl', {}, ...facts.flatMap(([label], i) => [el('dt', {}, label), values[i]])));
}

// update shows the endpoint that is selected, if one is.
function update(drawing) {
  const e = model.endpoints.get(model.selected);
  panel.hidden = !e;
  if (!e) {
    of = '';
    return;
  }
  setText(title, nameOf(e));
  facts.forEach(([, text], i) => setText(values[i], text(e)));
  drawing.draw(e.remote ? undefined : model.rates.get(e.id), of !== e.id);
  // Where the page is narrow the panel is above the table.
  if (of !== e.id && matchMedia('(max-width: 1050px)').matches) panel.scrollIntoView();
  of = e.id;
}

// start shows details, with actions by their labels, which are called with the container's name.
export function start(actions) {
  build(actions);
  const drawing = chart(picture);
  const show = () => byId('endpoints').hidden || update(drawing);
  model.addEventListener('change', show);
  return show;
}
