// SPDX-License-Identifier: Apache-2.0

// The list of what has happened, and what of that is read out.

import { byId, el, setText } from './dom.js';
import { model } from './model.js';
import { causeOf, short, time } from './text.js';

const most = 500; // events that are kept

export function start() {
  const body = byId('events').querySelector('tbody');
  model.addEventListener('event', ({ detail: e }) => {
    const where = [e.containerName || (e.endpointId && `endpoint ${short(e.endpointId)}`),
      e.networkName || short(e.networkId)].filter(Boolean).join(' on ');
    const how = [e.text, (e.addresses || []).join(', ')].filter(Boolean).join('; ');
    body.prepend(el('tr', {},
      el('td', {}, time(e.time)), el('th', { scope: 'row' }, `${e.type} ${e.action}`),
      el('td', {}, where), el('td', {}, how), el('td', {}, causeOf(e.cause))));
    if (['drift', 'repair', 'error'].includes(e.type)) setText(byId('news'), `${where}: ${e.type} ${e.action}: ${how}`);
    if (body.rows.length > most) body.lastChild.remove();
  });
}
