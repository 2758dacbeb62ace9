// SPDX-License-Identifier: Apache-2.0

// What a container can reach: the containers on its networks, and what is outside.

import { check } from './api.js';
import { summary } from './check.js';
import { byId, el, once } from './dom.js';
import { model } from './model.js';
import { driftOf, linkOf, nameOf, networkOf, outOf } from './text.js';

const found = new Map(); // summaries of checks, by ids of the two endpoints

// hindrance says what is known already to keep a container from being reached; empty: nothing is.
function hindrance(e) {
  if (e.remote) {
    const fault = model.hosts.find((h) => h.name === e.host)?.tunnel?.fault;
    return fault ? `the tunnel to ${e.host}: ${fault}` : '';
  }
  if (e.state !== 'up') return `it is ${e.state}, not up`;
  const link = linkOf(e, model.traffic);
  if (!['up', '…'].includes(link)) return `its link: ${link}`;
  const drift = driftOf(e);
  return ['none', '…'].includes(drift) ? '' : drift;
}

// checker returns a button that checks the way from an endpoint to an endpoint's id or an address, and what it found.
function checker(from, to, name) {
  const key = `${from.id} ${to}`;
  const said = el('span', { role: 'status' }, found.get(key) || '');
  const button = el('button', { type: 'button', 'aria-label': `Check the way to ${name}` }, 'Check');
  button.addEventListener('click', async () => {
    button.disabled = true;
    said.textContent = 'checking …';
    found.set(key, await check(from.id, to).then(summary, (err) => `✗ ${err.message}`));
    said.textContent = found.get(key);
    button.disabled = false;
  });
  return [button, ' ', said];
}

// outside is the row of the way out of a network. What can be checked of it is the way to the gateway.
function outside(e, n) {
  const gateway = (e.gateway || '').split(/[ ,]/).find((text) => /^[0-9a-f.:]+$/.test(text));
  return el('tr', {}, el('th', { scope: 'row' }, 'Outside'), el('td', {}, gateway || ''),
    el('td', {}, outOf(e, n)), el('td', {}, ...(gateway && !e.remote ? checker(e, gateway, 'the gateway') : [])));
}

function row(from, to) {
  const why = hindrance(to);
  return el('tr', {},
    el('th', { scope: 'row' }, nameOf(to)),
    el('td', {}, to.addresses.join(' ')),
    el('td', { className: why ? 'bad' : '' }, why ? `✗ ${why}` : to.remote ? `on host ${to.host}` : 'no fault is known'),
    el('td', {}, ...(to.remote || from.remote ? [] : checker(from, to.id, nameOf(to)))));
}

function network(e) {
  const n = model.networks.get(e.networkId);
  const others = [...model.endpoints.values()].filter((o) => o.networkId === e.networkId && o.id !== e.id);
  const notes = [];
  if (n?.internal) notes.push('internal: nobody outside is reached by it');
  if (n?.hostApart) notes.push('the host itself is not reached by it');
  if (n?.cluster) notes.push('it spans the hosts of the cluster');
  return el('section', {},
    el('h3', {}, `${networkOf(e)} (${others.length} ${others.length === 1 ? 'other' : 'others'})`),
    el('p', {}, notes.join('; ')),
    el('table', {},
      el('thead', {}, el('tr', {}, ...['Container', 'Addresses', 'What is known', 'Check'].map((t) =>
        el('th', { scope: 'col' }, t)))),
      el('tbody', {}, outside(e, n), ...others.map((o) => row(e, o)))));
}

let drawn = '';

// render draws what the container that is named can reach, if it is another way than it was drawn.
function render() {
  const target = byId('reached');
  const own = model.named(byId('who').value);
  const is = JSON.stringify([own.map((e) => e.id), own.length && [...model.endpoints.values()].map((e) =>
    [e.id, nameOf(e), e.addresses, hindrance(e)]), [...model.networks.keys()]]);
  if (is === drawn) return;
  drawn = is;
  if (own.length === 0) {
    target.replaceChildren(el('p', {}, byId('who').value ? 'No container on weave’s networks has this name.'
      : 'Name a container to see which ones share a network with it.'));
    return;
  }
  const mine = new Set(own.map((e) => e.networkId));
  const apart = [...model.networks.values()].filter((n) => !mine.has(n.id)).map((n) => n.name || n.id.slice(0, 12));
  target.replaceChildren(...own.map(network),
    el('section', {}, el('h3', {}, 'Not reached'), el('p', {}, apart.length === 0
      ? 'There is no network that it is not on.'
      : `It is on none of these networks, and reaches their containers at most by ports that are published: ${apart.join(', ')}`)));
}

// start returns a function that shows what a container can reach.
export function start() {
  const show = once(render);
  byId('who').addEventListener('input', show);
  byId('who').form.addEventListener('submit', (event) => event.preventDefault());
  model.addEventListener('change', () => byId('reach').hidden || show());
  return (name) => {
    if (name !== undefined) byId('who').value = name;
    show();
  };
}
