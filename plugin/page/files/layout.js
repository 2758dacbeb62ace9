// SPDX-License-Identifier: Apache-2.0

// Where the graph's nodes are: each network with its containers in rings around it, the networks in rows. A node that is
// there stays where it is when others come and go, unless its network outgrows its place.

const gap = 64; // between containers, along a ring and from one to the next
const first = 84; // radius of the innermost ring
const between = 70; // networks

// capacity is how many containers so many rings hold.
function capacity(rings) {
  let n = 0;
  for (let k = 0; k < rings; k++) n += perRing(k);
  return n;
}

const perRing = (k) => Math.floor((2 * Math.PI * (first + k * gap)) / gap);

// offset is where the container in a slot is, seen from its network.
function offset(slot) {
  let k = 0;
  while (slot >= perRing(k)) slot -= perRing(k++);
  const angle = (2 * Math.PI * (slot + (k % 2) / 2)) / perRing(k) - Math.PI / 2;
  const radius = first + k * gap;
  return { x: radius * Math.cos(angle), y: radius * Math.sin(angle) };
}

export class Layout {
  #cells = new Map(); // by network: {x, y, rings, slots}, slots being the ids of its containers or undefined
  #home = new Map(); // network by container
  #width = 0; // of a row

  // place returns the positions by id. hubs are pairs of a network and its containers, each of which is with the first
  // of its networks.
  place(hubs) {
    this.#forget(hubs);
    let grown = false;
    for (const [hub, leaves] of hubs) grown = this.#seat(hub, leaves) || grown;
    if (grown) this.#pack();
    const positions = new Map();
    for (const [hub, cell] of this.#cells) {
      positions.set(hub, { x: cell.x, y: cell.y });
      cell.slots.forEach((leaf, slot) => {
        const o = offset(slot);
        if (leaf) positions.set(leaf, { x: cell.x + o.x, y: cell.y + o.y });
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
    if (isNew) this.#cells.set(hub, { x: 0, y: 0, rings: 1, slots: [] });
    const cell = this.#cells.get(hub);
    for (const leaf of leaves) {
      if (this.#home.has(leaf)) continue;
      this.#home.set(leaf, hub);
      let slot = cell.slots.indexOf(undefined);
      if (slot < 0) slot = cell.slots.length;
      cell.slots[slot] = leaf;
    }
    const before = cell.rings;
    while (capacity(cell.rings) < cell.slots.length) cell.rings++;
    return isNew || cell.rings > before;
  }

  // #pack puts the networks into rows, in the order in which they came.
  #pack() {
    const size = (cell) => 2 * (first + (cell.rings - 1) * gap) + between;
    const cells = [...this.#cells.values()];
    const area = cells.reduce((sum, c) => sum + size(c) ** 2, 0);
    const width = Math.max(1.4 * Math.sqrt(area), ...cells.map(size));
    if (width > 1.3 * this.#width) this.#width = width * 1.1; // seldom, since it moves all
    let [x, y, height] = [0, 0, 0];
    for (const cell of cells) {
      const s = size(cell);
      if (x > 0 && x + s > this.#width) [x, y, height] = [0, y + height, 0];
      cell.x = x + s / 2;
      cell.y = y + s / 2;
      x += s;
      height = Math.max(height, s);
    }
  }
}
