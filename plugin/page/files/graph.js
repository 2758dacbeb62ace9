// SPDX-License-Identifier: Apache-2.0

// The graph: networks as hubs, containers as leaves. What a container reaches is what is on its networks, so there are
// no lines between containers. Cytoscape is loaded when somebody looks at it.

import { byId, once, setText } from './dom.js';
import { Layout } from './layout.js';
import { model } from './model.js';
import { nameOf, networkOf } from './text.js';

const canvas = byId('canvas');
const layout = new Layout();
let cy; // Cytoscape, once it is there
let loading = false;
let moved = false; // by the user, who then does not want all to be shown
let nameSize = 16; // of networks

const leafOf = (e) => `c ${e.containerId || e.id}`;
const hubOf = (id) => `n ${id}`;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function style() {
  const text = {
    label: 'data(label)', color: colour('--text'), 'font-size': 12, 'text-valign': 'bottom', 'text-margin-y': 3,
    'text-max-width': 86, 'text-wrap': 'ellipsis', 'min-zoomed-font-size': 7, 'text-events': 'yes',
  };
  return [
    { selector: 'node', style: { ...text, width: 14, height: 14, 'background-color': colour('--leaf') } },
    {
      selector: 'node.hub', style: {
        shape: 'round-rectangle', width: 30, height: 30, 'background-color': colour('--accent'), 'font-size': 'data(size)',
        'font-weight': 'bold', 'text-max-width': 400, 'min-zoomed-font-size': 0, 'text-background-color': colour('--page'),
        'text-background-opacity': 0.8, 'z-index': 10,
      },
    },
    { selector: 'node.internal', style: { 'border-width': 4, 'border-style': 'double', 'border-color': colour('--text') } },
    { selector: 'node.remote', style: { 'background-opacity': 0.3, 'border-width': 1, 'border-color': colour('--leaf') } },
    { selector: 'node.drift', style: { shape: 'diamond', width: 24, height: 24, 'background-color': colour('--bad') } },
    { selector: 'edge', style: { width: 1, 'line-color': colour('--line'), 'curve-style': 'haystack' } },
    { selector: '.far', style: { opacity: 0.2 } },
    { selector: 'node.chosen', style: { 'border-width': 4, 'border-color': colour('--text'), 'border-opacity': 1 } },
    { selector: 'edge.near', style: { width: 2, 'line-color': colour('--accent') } },
  ];
}

// wanted returns the nodes and edges that there should be, by id.
function wanted() {
  const hubs = new Map([...model.networks.keys()].map((id) => [hubOf(id), []]));
  const elements = new Map();
  for (const n of model.networks.values()) {
    const label = (n.name || n.id.slice(0, 12)) + (n.internal ? ' (internal)' : '');
    elements.set(hubOf(n.id), { data: { label }, classes: n.internal ? 'hub internal' : 'hub' });
  }
  for (const e of model.endpoints.values()) {
    const [hub, leaf] = [hubOf(e.networkId), leafOf(e)];
    if (!hubs.has(hub)) continue; // its network is about to be listed
    hubs.get(hub).push(leaf);
    const drift = e.drift?.length > 0 || elements.get(leaf)?.classes === 'drift';
    elements.set(leaf, { data: { label: nameOf(e) }, classes: drift ? 'drift' : e.remote ? 'remote' : '' });
    elements.set(`${hub} ${leaf}`, { data: { source: hub, target: leaf }, classes: '' });
  }
  return { hubs: [...hubs], elements };
}

// update brings the graph in line with the model.
function update() {
  const { hubs, elements } = wanted();
  const positions = layout.place(hubs, canvas.clientWidth / Math.max(canvas.clientHeight, 1));
  const wasEmpty = cy.elements().empty();
  cy.batch(() => {
    cy.elements().filter((x) => !elements.has(x.id())).remove();
    for (const [id, { data, classes }] of elements) {
      const x = cy.getElementById(id);
      if (x.empty()) {
        cy.add({ data: { id, size: nameSize, ...data }, classes, position: { ...positions.get(id) }, grabbable: false });
        continue;
      }
      if (!x.isNode()) continue;
      if (x.data('label') !== data.label) x.data('label', data.label);
      if (x.scratch('classes') !== classes) x.classes(classes);
      const at = positions.get(id);
      if (x.position('x') !== at.x || x.position('y') !== at.y) x.position({ ...at });
      x.scratch('classes', classes);
    }
  });
  if (wasEmpty) fit();
  mark();
  const count = `${hubs.length} networks and ${model.endpoints.size} endpoints`;
  canvas.setAttribute('aria-label', `Graph of ${count}. The table and Reach have the same in words.`);
}

// mark shows what the selected container reaches: its networks and who is on them.
function mark() {
  const e = model.endpoints.get(model.selected);
  const leaf = e ? cy.getElementById(leafOf(e)) : cy.collection();
  const near = leaf.closedNeighborhood();
  const reached = near.union(near.nodes('.hub').closedNeighborhood());
  cy.batch(() => {
    cy.elements().removeClass('chosen near far');
    if (leaf.empty()) return;
    cy.elements().difference(reached).addClass('far');
    leaf.addClass('chosen');
    near.edges().addClass('near');
  });
  if (!e) {
    setText(byId('chosen'), '');
    return;
  }
  const networks = [...model.endpoints.values()].filter((o) => leafOf(o) === leafOf(e)).map(networkOf);
  const others = reached.nodes().filter((x) => !x.hasClass('hub')).length - 1;
  setText(byId('chosen'), `${nameOf(e)} is on ${networks.join(' and ')}, with ${others} other ` +
    `${others === 1 ? 'container' : 'containers'}${e.drift?.length ? `. Drift: ${e.drift.map((d) => d.text).join('; ')}` : ''}.`);
}

// nameHubs has the names of networks be readable however small all else is.
const nameHubs = once(() => {
  const size = Math.max(16, Math.min(Math.round(13 / cy.zoom()), 60));
  if (size === nameSize) return;
  nameSize = size;
  cy.nodes('.hub').data('size', size);
});

function fit() {
  moved = false;
  cy.resize();
  cy.fit(undefined, 30);
  if (cy.zoom() > 1.4) cy.zoom({ level: 1.4, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
}

async function load() {
  loading = true;
  const { default: cytoscape } = await import('./lib/cytoscape.esm.min.mjs');
  cy = cytoscape({
    container: canvas, style: style(), layout: { name: 'preset' }, minZoom: 0.05, maxZoom: 3, autoungrabify: true,
    selectionType: 'single', hideEdgesOnViewport: true, textureOnViewport: true, autounselectify: true,
  });
  cy.on('tap', (event) => {
    if (event.target === cy) model.select('');
    else if (event.target.isNode() && !event.target.hasClass('hub')) {
      model.select([...model.endpoints.values()].find((e) => leafOf(e) === event.target.id())?.id || '');
    }
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => cy.style(style()));
  cy.on('zoom', nameHubs);
  cy.on('dragpan pinchzoom scrollzoom', () => { moved = true; });
  new ResizeObserver(() => {
    cy.resize();
    if (!moved && canvas.clientWidth > 0) fit();
  }).observe(canvas);
  byId('fit').addEventListener('click', fit);
}

export function start() {
  const show = once(async () => {
    if (byId('graph').hidden) return;
    if (!cy && loading) return;
    if (!cy) await load();
    cy.resize();
    update();
  });
  model.addEventListener('change', show);
  return show;
}
