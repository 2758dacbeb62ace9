// SPDX-License-Identifier: Apache-2.0

// The page's requests: it reads the lists, follows the events, and reads again what they are about.

import { model } from './model.js';

const trafficInterval = 2000; // ms
const statusInterval = 60000;
const againTime = 3000; // until the next attempt to connect
const types = ['network', 'endpoint', 'drift', 'repair', 'error', 'weave', 'lost'];

// send returns the answer to a request, or throws the reason why it is refused.
async function send(path, options = {}) {
  const answer = await fetch(path, { cache: 'no-store', headers: { 'Weave-Page': 'yes' }, ...options });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Error(body.error || `status ${answer.status}`);
}

const ask = async (path, options) => (await send(path, options)).json();

// check asks why one container does not reach another one.
export function check(from, to, port) {
  const question = new URLSearchParams({ from, to });
  if (port) question.set('port', port);
  return ask(`/v1/check?${question}`, { method: 'POST' });
}

// Networks whose endpoints are to be read; everything: all, with the networks themselves and drift.
let due = new Set();
let everything = false;
let reading = false;

function readSoon(network) {
  if (network) due.add(network);
  else everything = true;
  if (!reading) read();
}

// read reads what is due until there is nothing left. Events that come meanwhile are read about after that.
async function read() {
  reading = true;
  try {
    while (everything || due.size > 0) {
      const [all, some] = [everything, [...due]];
      everything = false;
      due = new Set();
      await (all ? readAll() : readSome(some));
      await new Promise((done) => setTimeout(done, 200)); // changes come in bursts
    }
  } catch (err) {
    model.setConnection('lost', err.message);
    setTimeout(() => readSoon(), againTime);
  } finally {
    reading = false;
  }
}

// Docker tells a container's name some time after weave has made its endpoint, and there is no event for that. So the
// endpoints of its network are read again then, a few times: some never get a name.
const nameTries = new Map(); // by id of the endpoint

function nameLater(endpoints) {
  for (const e of endpoints) {
    const tries = nameTries.get(e.id) || 0;
    const named = e.remote || (e.containerName && e.networkName);
    if (named) nameTries.delete(e.id);
    if (named || tries === 5) continue;
    nameTries.set(e.id, tries + 1);
    setTimeout(() => {
      if (model.endpoints.has(e.id)) readSoon(e.networkId);
      else nameTries.delete(e.id);
    }, 400 * 2 ** tries);
  }
}

let wasRead = false;

// readPast reads the drift that events have told of before the page was opened and no listing tells: missing routes.
async function readPast() {
  if (wasRead) return;
  const now = new Date((await send('/v1/status', { method: 'HEAD' })).headers.get('Date'));
  const query = new URLSearchParams({ type: 'drift', since: '0', until: now.toISOString() });
  const lines = (await (await send(`/v1/events?${query}`)).text()).split('\n').filter(Boolean);
  const past = lines.map((line) => JSON.parse(line)).filter((event) => event.drift === 'route-missing');
  for (const event of past) model.applyDrift(event);
  wasRead = true;
}

async function readAll() {
  model.beginDrift();
  const [networks, endpoints, hosts] = await Promise.all(
    ['/v1/networks', '/v1/endpoints', '/v1/hosts'].map((path) => ask(path)));
  model.hosts = hosts;
  model.setNetworks(networks);
  model.setEndpoints(endpoints);
  nameLater(endpoints);
  readStatus();
  if (source.readyState === EventSource.OPEN) model.setConnection('live');
  readTraffic();
  model.setDrift(await ask('/v1/endpoints?live=kernel'));
  await readPast();
}

async function readSome(ids) {
  const networks = await ask('/v1/networks');
  const there = ids.filter((id) => networks.some((n) => n.id === id));
  const query = new URLSearchParams(there.map((id) => ['network', id]));
  const endpoints = there.length ? await ask(`/v1/endpoints?${query}`) : [];
  model.setNetworks(networks);
  model.setEndpoints(endpoints, ids);
  nameLater(endpoints);
}

async function readStatus() {
  model.status = await ask('/v1/status').catch(() => model.status);
  model.changed();
}

let measuring = false;

// readTraffic measures what is sent, while somebody looks at the page.
async function readTraffic() {
  if (measuring || document.hidden || model.connection.state !== 'live') return;
  measuring = true;
  try {
    model.setTraffic(await ask('/v1/traffic'), Date.now());
    model.dataTime = Date.now();
  } catch {
    // The stream of events tells when weave is away.
  } finally {
    measuring = false;
  }
}

let source;
let cursor = '';

// follow follows the events. A browser connects again by itself, with the cursor of the last event, but not when it was
// refused.
function follow() {
  source = new EventSource(`/v1/events${cursor && `?cursor=${cursor}`}`);
  source.onopen = () => readSoon();
  source.onerror = (message) => {
    if (message.data !== undefined) return; // one of weave's events, whose type has the same name
    model.setConnection('lost', 'weave does not answer, or has too many pages open');
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, againTime);
  };
  for (const type of types) source.addEventListener(type, (message) => message.data && hear(JSON.parse(message.data)));
}

function hear(event) {
  cursor = event.cursor;
  model.happened(event);
  if (event.type === 'lost' || event.type === 'weave') {
    model.forgetDrift();
    readSoon();
  } else if (event.type === 'endpoint' || event.type === 'network') readSoon(event.networkId);
}

export function start() {
  follow();
  setInterval(readTraffic, trafficInterval);
  setInterval(() => document.hidden || readStatus(), statusInterval);
  document.addEventListener('visibilitychange', readTraffic);
}
