// SPDX-License-Identifier: Apache-2.0

// Where the graph's nodes are: each network with its containers in rings around it, the networks in rows. A node that is
// there stays where it is when others come and go, unless its network outgrows its place.

const gap = 40; // from ring to ring, and between the containers of one
const wide = 2.2; // rings are so much wider than high, since names are
const border = { x: 90, y: 50 }; // around a network

const radius = (k) => 48 + k * gap;
const perRing = (k) => Math.floor((2 * Math.PI * radius(k)) / gap);

// capacity is how many containers so many rings hold.
function capacity(rings) {
  let n = 0;
  for (let k = 0; k < rings; k++) n += perRing(k);
  return n;
}

// offset is where the container in a slot is, seen from its network.
function offset(slot) {
  let k = 0;
  while (slot >= perRing(k)) slot -= perRing(k++);
  const angle = (2 * Math.PI * (slot + (k % 2) / 2)) / perRing(k) - Math.PI / 2;
  return { x: wide * radius(k) * Math.cos(angle), y: radius(k) * Math.sin(angle) };
}

function sizeOf(cell) {
  const r = radius(cell.rings - 1);
  return { width: 2 * wide * r + border.x, height: 2 * r + border.y };
}

// rows puts networks into rows that are no wider than a width, and returns their centers and the size of all.
function rows(cells, most) {
  let [x, y, height, width] = [0, 0, 0, 0];
  const centers = cells.map((cell) => {
    const size = sizeOf(cell);
    if (x > 0 && x + size.width > most) [x, y, height] = [0, y + height, 0];
    const center = { x: x + size.width / 2, y: y + size.height / 2 };
    x += size.width;
    width = Math.max(width, x);
    height = Math.max(height, size.height);
    return center;
  });
  return { centers, width, height: y + height };
}

export class Layout {
  #cells = new Map(); // by network: {center, rings, slots}, slots being the ids of its containers or undefined
  #home = new Map(); // network by container
  #width = 0; // of a row

  // place returns the positions by id. hubs are pairs of a network and its containers, each of which is with the first
  // of its networks. aspect is how much wider than high what they are drawn on is.
  place(hubs, aspect) {
    this.#forget(hubs);
    let grown = false;
    for (const [hub, leaves] of hubs) grown = this.#seat(hub, leaves) || grown;
    if (grown) this.#pack(aspect);
    const positions = new Map();
    for (const [hub, { center, slots }] of this.#cells) {
      positions.set(hub, center);
      slots.forEach((leaf, slot) => {
        const o = offset(slot);
        if (leaf) positions.set(leaf, { x: center.x + o.x, y: center.y + o.y });
      });
    }
    return positions;
  }

  // #forget frees the places of what is not there any more.
  #forget(hubs) {
    const there = new Map(hubs.map(([hub, leaves]) => [hub, new Set(leaves)]));
    for (const [hub, cell] of this.#cells) {
      cell.slots.forEach((leaf, slot) => {
        if (!leaf || there.get(hub)?.has(leaf)) return;
        cell.slots[slot] = undefined;
        this.#home.delete(leaf);
      });
      if (!there.has(hub)) this.#cells.delete(hub);
    }
  }

  // #seat gives the containers of a network that have none a place, and reports whether the network needs more room.
  #seat(hub, leaves) {
    const isNew = !this.#cells.has(hub);
    if (isNew) this.#cells.set(hub, { rings: 1, slots: [] });
    const cell = this.#cells.get(hub);
    for (const leaf of leaves) {
      if (this.#home.has(leaf)) continue;
      this.#home.set(leaf, hub);
      const free = cell.slots.indexOf(undefined);
      cell.slots[free < 0 ? cell.slots.length : free] = leaf;
    }
    const before = cell.rings;
    while (capacity(cell.rings) < cell.slots.length) cell.rings++;
    return isNew || cell.rings > before;
  }

  // #pack puts the networks into rows, in the order in which they came. How wide these are changes only if everything
  // is much larger then, since it moves all networks.
  #pack(aspect) {
    const cells = [...this.#cells.values()];
    const zoom = (packed) => Math.min(aspect / packed.width, 1 / packed.height);
    let best = { width: this.#width, zoom: 1.25 * zoom(rows(cells, this.#width)) };
    const widest = Math.max(...cells.map((c) => sizeOf(c).width));
    for (let n = 1; n <= cells.length; n++) {
      const packed = rows(cells, n * widest);
      if (zoom(packed) > best.zoom) best = { width: n * widest, zoom: zoom(packed) };
    }
    this.#width = best.width;
    rows(cells, this.#width).centers.forEach((center, i) => { cells[i].center = center; });
  }
}
