// SPDX-License-Identifier: Apache-2.0

// What the API tells, in words.

export const short = (id) => (id || '').slice(0, 12);

export const nameOf = (e) => e.containerName || (e.containerId ? short(e.containerId) : `endpoint ${short(e.id)}`);

export const networkOf = (e) => e.networkName || short(e.networkId);

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

// bytes returns a number of bytes with three digits: 1.24 MB.
export function bytes(n) {
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  const digits = unit === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return `${n.toFixed(digits)} ${units[unit]}`;
}

// rate returns bytes per second; undefined: not known.
export const rate = (n) => (n === undefined ? '–' : n < 0.5 ? '0' : `${bytes(n)}/s`);

export const time = (text) => new Date(text).toLocaleTimeString();

// linkOf says whether the two ends of an endpoint are connected.
export function linkOf(e, traffic) {
  if (e.remote) return '–';
  if (!traffic) return '…';
  if (!traffic.has(e.id)) return 'missing';
  const t = traffic.get(e.id);
  if (!t.up) return 'host end down';
  return t.carrier ? 'up' : 'no carrier';
}

// driftOf says how an endpoint differs from what weave tracks.
export function driftOf(e) {
  if (e.remote) return '–';
  if (!e.drift) return '…';
  return e.drift.map((d) => d.text).join('; ') || 'none';
}

// outOf says where an endpoint's packets for the outside go.
export function outOf(e, network) {
  if (network && network.internal) return 'none: the network is internal';
  if (!e.gateway) return e.remote ? 'not known here' : 'none by this network';
  return `by ${e.gateway.replace('docker', 'Docker’s own network for that, docker_gwbridge')}`;
}

const causes = {
  docker: 'Docker', comparison: 'weave, which compared itself with Docker', repair: 'weave, which keeps its networks',
  start: 'weave’s start', netlink: 'another program',
};

// causeOf says why something has happened.
export function causeOf(cause) {
  if (!cause) return '';
  const who = cause.by || (cause.port ? `port ${cause.port}` : '');
  return [causes[cause.kind] || cause.kind, cause.call, who].filter(Boolean).join(', ');
}

// address returns an address as a text whose order is that of addresses.
export function addressOrder(e) {
  const [first] = e.addresses;
  if (!first) return '~';
  const text = first.split('/')[0];
  if (text.includes(':')) return `6${text}`;
  return '4' + text.split('.').map((n) => n.padStart(3, '0')).join('.');
}
