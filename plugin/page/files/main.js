// SPDX-License-Identifier: Apache-2.0

// The page: views, the state of the connection, warnings.

import * as api from './api.js';
import * as check from './check.js';
import * as details from './details.js';
import * as events from './events.js';
import * as graph from './graph.js';
import * as reach from './reach.js';
import * as table from './table.js';
import { byId, el, setText } from './dom.js';
import { model } from './model.js';

const views = ['endpoints', 'graph', 'check', 'reach', 'events'];

const fillCheck = check.start();
const showReach = reach.start();
const showTable = table.start();
const showDetails = details.start({
  'Check from here': (from) => open('check', () => fillCheck({ from })),
  'Check to here': (to) => open('check', () => fillCheck({ to })),
  'What can it reach?': (name) => open('reach', () => showReach(name)),
});
const showGraph = graph.start();
events.start();

const shown = {
  endpoints: () => {
    showTable();
    showDetails();
  },
  graph: showGraph,
  check: check.names,
  reach: () => {
    check.names();
    showReach();
  },
  events: () => {},
};

// open shows a view, and calls then.
function open(view, then) {
  for (const name of views) {
    const tab = byId(`tab-${name}`);
    byId(name).hidden = name !== view;
    tab.setAttribute('aria-selected', String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
  }
  if (location.hash !== `#${view}`) history.replaceState(null, '', `#${view}`);
  shown[view]();
  then?.();
}

function startTabs() {
  for (const [i, name] of views.entries()) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener('click', () => open(name));
    tab.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = views[(i + step + views.length) % views.length];
      open(next, () => byId(`tab-${next}`).focus());
    });
  }
  const wanted = () => (views.includes(location.hash.slice(1)) ? location.hash.slice(1) : 'endpoints');
  addEventListener('hashchange', () => open(wanted()));
  open(wanted());
}

// showConnection says whether what is on the page is so now. How old it is, is no news to be read out each second.
function showConnection() {
  const { state, since, why } = model.connection;
  const at = new Date(since).toLocaleTimeString();
  const text = { connecting: 'Connecting …', live: '● Live', lost: `✗ Connection lost at ${at}: ${why}` }[state];
  setText(byId('connection'), text);
  document.body.className = state;
  const age = Math.round((Date.now() - model.dataTime) / 1000);
  setText(byId('age'), state === 'lost' && model.dataTime ? `What you see is ${age} s old. Trying again.` : '');
}

function showStatus() {
  const list = byId('warnings');
  const warnings = model.status?.warnings || [];
  if (list.dataset.warnings !== JSON.stringify(warnings)) {
    list.dataset.warnings = JSON.stringify(warnings);
    list.replaceChildren(...warnings.map((w) => el('li', {}, `⚠ ${w}`)));
  }
  const s = model.status;
  document.title = `weave on ${model.hosts.find((h) => h.self)?.name || location.host}`;
  if (s) setText(byId('about'), `weave ${s.version}, ${model.networks.size} networks`);
}

model.addEventListener('change', () => {
  showConnection();
  showStatus();
  if (!byId('check').hidden || !byId('reach').hidden) check.names();
});
setInterval(() => model.connection.state === 'lost' && showConnection(), 1000);
startTabs();
api.start();
