// SPDX-License-Identifier: Apache-2.0

// A check of the way from one container to another: what is found of each layer, drawn where it is on the way, and then
// in words.

import { check } from './api.js';
import { byId, el } from './dom.js';
import { model } from './model.js';
import { nameOf } from './text.js';

const words = {
  name: 'Name', from: 'Link and address', route: 'Route', to: 'Link and address', neighbour: 'Neighbour',
  bridge: 'Port', firewall: 'Firewall', listener: 'Listener', back: 'Way back', connection: 'Answers to probes',
  size: 'Full-size packets',
};

const marks = { ok: '✓', failed: '✗', unknown: '?' };
const results = { ok: 'ok', failed: 'fails', unknown: 'not known' };

// pair returns the two endpoints that the server looks at: the first that are on a network together.
function pair(from, to) {
  const targets = model.named(to).filter((e) => !e.remote);
  for (const a of model.named(from).filter((e) => !e.remote)) {
    const b = targets.find((e) => e.networkId === a.networkId);
    if (b) return [a, b];
  }
  return [model.named(from)[0], undefined];
}

// stations are what is on the way, with the layers that are looked at there.
function stations(from, to, port) {
  const [a, b] = pair(from, to);
  const bridge = a?.bridge || 'bridge';
  const list = [
    { is: 'Container', name: from, more: a?.addresses[0], layers: ['name', 'from', 'route'] },
    { is: 'Host end', name: a?.hostEnd || 'veth', by: 'veth' },
    { is: 'Bridge', name: bridge, more: a?.networkName, layers: ['neighbour', 'bridge', 'firewall'] },
  ];
  if (b) list.push({ is: 'Host end', name: b.hostEnd });
  list.push({
    is: b ? 'Container' : 'Address', name: to, by: b ? 'veth' : '', more: b?.addresses[0],
    layers: ['to', 'listener', 'back'], port,
  });
  return list;
}

function badge(l, failed) {
  const first = l.layer === failed;
  return el('li', { className: `${l.result}${first ? ' first' : ''}`, title: l.evidence },
    el('span', { 'aria-hidden': 'true' }, marks[l.result]), ` ${words[l.layer] || l.layer}: `,
    first ? el('strong', {}, 'fails here') : results[l.result]);
}

function draw(answer, from, to, port) {
  const by = new Map(answer.layers.map((l) => [l.layer, l]));
  const badges = (layers) => layers.filter((n) => by.has(n)).map((n) => badge(by.get(n), answer.failed));
  const path = el('ol', { className: 'path', 'aria-label': 'The way' });
  for (const s of stations(from, to, port)) {
    const layers = s.layers || [];
    const station = el('li', { className: layers.includes(answer.failed) ? 'station failed' : 'station' },
      el('span', { className: 'is' }, s.is), el('b', {}, s.name),
      s.more ? el('span', { className: 'more' }, s.port ? `${s.more}, port ${s.port}` : s.more) : undefined,
      el('ul', {}, ...badges(layers)));
    path.append(station);
  }
  const whole = ['connection', 'size'];
  return [path, el('div', { className: whole.includes(answer.failed) ? 'whole failed' : 'whole' },
    el('span', { className: 'is' }, 'The whole way'), el('ul', {}, ...badges(whole)))];
}

function explain(answer) {
  return el('table', { className: 'layers' },
    el('caption', {}, 'In the order of the way'),
    el('thead', {}, el('tr', {}, ...['Layer', 'Result', 'Evidence'].map((t) => el('th', { scope: 'col' }, t)))),
    el('tbody', {}, ...answer.layers.map((l) => el('tr', { className: l.result },
      el('th', { scope: 'row' }, l.layer),
      el('td', {}, `${marks[l.result]} ${results[l.result]}`),
      el('td', {}, l.evidence, l.advice && el('p', { className: 'advice' }, `What to do: ${l.advice}`))))));
}

// summary says in a sentence what was found.
export function summary(answer) {
  const l = answer.layers.find((l) => l.layer === answer.failed);
  if (l) return `✗ ${l.layer} fails: ${l.evidence}`;
  return answer.layers.some((l) => l.result === 'unknown') ? '✓ no fault found' : '✓ all is well';
}

async function run(from, to, port) {
  const verdict = byId('verdict');
  const button = byId('question').querySelector('button');
  button.disabled = true;
  verdict.setAttribute('aria-busy', 'true');
  verdict.replaceChildren(el('p', {}, `Checking the way from ${from} to ${to} …`));
  try {
    const answer = await check(from, to, port);
    const advice = answer.layers.find((l) => l.layer === answer.failed)?.advice;
    verdict.replaceChildren(
      el('h2', {}, answer.question), el('p', { className: answer.failed ? 'sum bad' : 'sum' }, summary(answer)),
      advice ? el('p', { className: 'advice' }, `What to do: ${advice}`) : '',
      ...draw(answer, from, to, port), explain(answer));
  } catch (err) {
    verdict.replaceChildren(el('p', { className: 'sum bad' }, `✗ ${err.message}`));
  } finally {
    verdict.removeAttribute('aria-busy');
    button.disabled = false;
  }
}

// start returns a function that fills in the question.
export function start() {
  const form = byId('question');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run(form.from.value.trim(), form.to.value.trim(), form.port.value);
  });
  return (values) => {
    for (const [name, value] of Object.entries(values)) form[name].value = value;
    const empty = [form.from, form.to].find((input) => !input.value);
    (empty || form.querySelector('button')).focus();
  };
}

// names keeps the list of what can be typed in line with the containers that there are.
export function names() {
  const list = byId('containers');
  const wanted = [...new Set([...model.endpoints.values()].filter((e) => !e.remote).map(nameOf))].sort();
  if (list.dataset.names === wanted.join(' ')) return;
  list.dataset.names = wanted.join(' ');
  list.replaceChildren(...wanted.map((value) => el('option', { value })));
}
