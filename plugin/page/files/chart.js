// SPDX-License-Identifier: Apache-2.0

// The chart of an endpoint's rates, by uPlot, which is a script of its own: uPlot is global.

import { model } from './model.js';
import { rate } from './text.js';

/* global uPlot */

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// chart returns what draws rates into an element.
export function chart(element) {
  let plot;
  let drawn; // the last time that is drawn

  const options = () => ({
    width: element.clientWidth,
    height: 150,
    legend: { live: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1000)] } },
    axes: [
      { stroke: colour('--quiet'), grid: { stroke: colour('--line') }, ticks: { show: false }, space: 70 },
      {
        stroke: colour('--quiet'), grid: { stroke: colour('--line') }, ticks: { show: false }, size: 76,
        values: (_, list) => list.map(rate),
      },
    ],
    series: [
      {},
      { label: 'sent', stroke: colour('--sent'), width: 2, points: { show: false } },
      { label: 'received, dashed', stroke: colour('--received'), width: 2, dash: [5, 4], points: { show: false } },
    ],
  });

  function clear() {
    plot?.destroy();
    plot = undefined;
    drawn = undefined;
  }

  // draw draws rates; anew: those of another endpoint, or with other colours.
  function draw(rates, anew) {
    if (anew) clear();
    if (!rates || rates.time.length < 2) {
      element.textContent = plot ? '' : 'The chart begins after some seconds.';
      return;
    }
    const data = [rates.time, rates.sent, rates.received];
    if (!plot) {
      element.textContent = '';
      plot = new uPlot(options(), data, element);
    } else if (drawn !== rates.time.at(-1)) {
      plot.setData(data);
    }
    drawn = rates.time.at(-1);
  }

  new ResizeObserver(() => {
    const width = element.clientWidth;
    if (plot && width > 0 && plot.width !== width) plot.setSize({ width, height: 150 });
  }).observe(element);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    clear();
    model.changed(); // which draws it again
  });
  return { draw };
}
