// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"slices"
	"sync"
	"time"
)

// Repair is one time that weave has put right, while it ran, what another program had changed.
type Repair struct {
	Time    time.Time
	Network NetworkID
	Subject string // "bridge wv-..." or "host end wve-..."
	What    string // what was wrong: "down, mtu 1400, not 1500"
	By      string // who had changed it, "networkd (process 812)"; empty: the kernel does not tell
}

// keptRepairs is how many repairs are kept.
const keptRepairs = 50

// history is what was repaired lately, and what was told to be wrong. Several goroutines may use it.
type history struct {
	mu      sync.Mutex
	repairs []Repair               // oldest first
	told    map[NetworkID][]string // what was wrong when the network was looked at last
}

func (h *history) add(r Repair) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repairs = append(h.repairs, r)
	h.repairs = slices.Clone(h.repairs[max(0, len(h.repairs)-keptRepairs):])
}

// news records what is wrong with a network now, and returns what was not the last time.
func (h *history) news(id NetworkID, found []problem) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var now, news []string
	for _, x := range found {
		text := x.String()
		now = append(now, text)
		if !slices.Contains(h.told[id], text) {
			news = append(news, text)
		}
	}
	if len(now) == 0 {
		delete(h.told, id)
	} else {
		h.told[id] = now
	}
	return news
}

// Repairs returns what was repaired lately, oldest first.
func (d *Driver) Repairs() []Repair {
	d.history.mu.Lock()
	defer d.history.mu.Unlock()
	return slices.Clone(d.history.repairs)
}
