// SPDX-License-Identifier: Apache-2.0

// What the page knows of the host. It is an EventTarget: "change" says that something is another way, at most once in a
// frame, and "event" that something has happened.

import { once } from './dom.js';
import { nameOf, networkOf } from './text.js';

const historyLength = 150; // measurements of each endpoint's rates

class Model extends EventTarget {
  networks = new Map(); // by id
  endpoints = new Map(); // by id, in the order of the API
  hosts = [];
  status = undefined;
  traffic = undefined; // by id of the endpoint; undefined: not known yet
  rates = new Map(); // by id: {time, sent, received}, lists of bytes per second
  selected = ''; // id of an endpoint
  connection = { state: 'connecting', since: Date.now(), why: '' }; // or live, or lost
  dataTime = 0; // when the endpoints were heard of last
  #trafficTime = 0;
  #looked = false; // there has been a live listing: what comes after it has no drift until an event tells of it
  #heard = undefined; // drift events while a live listing is under way

  changed = once(() => this.dispatchEvent(new Event('change')));

  setConnection(state, why = '') {
    if (this.connection.state === state && this.connection.why === why) return;
    const since = this.connection.state === state ? this.connection.since : Date.now();
    this.connection = { state, since, why };
    this.changed();
  }

  setNetworks(list) {
    this.networks = new Map(list.map((n) => [n.id, n]));
    this.changed();
  }

  // setEndpoints takes over a listing, of some networks only if these are given. What is known of drift stays.
  setEndpoints(list, networks) {
    const before = this.endpoints;
    const all = networks ? [...before.values()].filter((e) => !networks.includes(e.networkId)).concat(list) : list;
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    all.sort((a, b) => compare(networkOf(a), networkOf(b)));
    this.endpoints = new Map(all.map((e) => [e.id, e]));
    for (const e of list) {
      const known = before.get(e.id);
      e.drift = known ? known.drift : this.#looked ? [] : undefined;
    }
    for (const id of this.rates.keys()) if (!this.endpoints.has(id)) this.rates.delete(id);
    if (!this.endpoints.has(this.selected)) this.selected = '';
    this.dataTime = Date.now();
    this.changed();
  }

  // forgetDrift is for when events were missed.
  forgetDrift() {
    for (const e of this.endpoints.values()) e.drift = undefined;
  }

  // beginDrift says that a live listing is asked for: events from now on are newer than what it will tell.
  beginDrift() {
    this.#heard = [];
  }

  setDrift(live) {
    this.#looked = true;
    for (const { id, drift } of live) {
      const e = this.endpoints.get(id);
      const routes = e?.drift?.filter((d) => d.kind === 'route-missing') || []; // which events alone tell
      if (e) e.drift = [...drift, ...routes];
    }
    const heard = this.#heard || [];
    this.#heard = undefined;
    for (const event of heard) this.applyDrift(event);
    this.changed();
  }

  // applyDrift takes over what an event tells of drift and of its repair.
  applyDrift(event) {
    this.#heard?.push(event);
    const e = this.endpoints.get(event.endpointId);
    if (!e || (event.type === 'endpoint' && event.action !== 'left')) return;
    const kind = event.drift || 'host'; // on the host, where weave repairs it
    const others = (e.drift || []).filter((d) => d.kind !== kind || (kind !== 'host' && d.text !== event.text));
    if (event.type === 'endpoint') e.drift = []; // of a container that it has left
    else if (event.type === 'drift' && event.action === 'found') e.drift = [...others, { kind, text: event.text }];
    else if (event.type === 'drift' || event.type === 'repair') e.drift = others;
    this.changed();
  }

  // setTraffic takes over what endpoints have counted, and finds the rates since the last time.
  setTraffic(list, now) {
    const seconds = (now - this.#trafficTime) / 1000;
    for (const t of list) {
      const before = this.traffic?.get(t.endpointId);
      if (!before || seconds > 30 || t.sentBytes < before.sentBytes || t.receivedBytes < before.receivedBytes) continue;
      const r = this.rates.get(t.endpointId) || { time: [], sent: [], received: [] };
      r.time.push(now / 1000);
      r.sent.push((t.sentBytes - before.sentBytes) / seconds);
      r.received.push((t.receivedBytes - before.receivedBytes) / seconds);
      if (r.time.length > historyLength) for (const list of Object.values(r)) list.shift();
      this.rates.set(t.endpointId, r);
    }
    this.traffic = new Map(list.map((t) => [t.endpointId, t]));
    this.#trafficTime = now;
    this.changed();
  }

  rateOf(id, way) {
    return this.rates.get(id)?.[way].at(-1);
  }

  select(id) {
    this.selected = id;
    this.changed();
  }

  // named returns the endpoints that a text means: the name or id of a container, or the id of an endpoint.
  named(text) {
    const wanted = text.trim();
    if (!wanted) return [];
    return [...this.endpoints.values()].filter((e) =>
      [e.containerName, e.containerId, e.id, nameOf(e)].includes(wanted));
  }

  happened(event) {
    this.applyDrift(event);
    this.dispatchEvent(new CustomEvent('event', { detail: event }));
  }
}

export const model = new Model();
