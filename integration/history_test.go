// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/weaveplugin/weave/integration/lab"
)

// history is what clients have seen. It may be used by several of them at once.
type history struct {
	start time.Time

	mu               sync.Mutex
	operations       []porcupine.Operation
	refused, unknown int
	findings         []string
	held             map[heldAddress]bool
}

type heldAddress struct {
	host *bareHost
	addr netip.Addr
}

// isHeld reports whether a client on a host has the address, or may have it.
func (h *history) isHeld(host *bareHost, a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[heldAddress{host, a}]
}

// addressCall is the input of an operation.
type addressCall struct {
	address netip.Addr
	release bool
}

// request requests an address. What was refused, or has no answer, is no part of the history: nobody has an address
// by it.
func (h *history) request(c *client, name netip.Addr) (netip.Addr, bool) {
	begun := time.Since(h.start)
	got, err := c.host.request(name)
	ended := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case errors.Is(err, lab.ErrRefused):
		h.refused++
	case err != nil:
		h.unknown++
	default:
		h.held[heldAddress{c.host, got.Addr()}] = true
		h.add(c, addressCall{got.Addr(), false}, begun, ended)
	}
	return got.Addr(), err == nil
}

// release releases an address. Without an answer it may be released at any time from now on.
func (h *history) release(c *client, a netip.Addr) {
	begun := time.Since(h.start)
	err := c.host.release(a)
	ended := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		delete(h.held, heldAddress{c.host, a})
	case errors.Is(err, lab.ErrRefused):
		h.findings = append(h.findings, err.Error())
	default:
		h.unknown++
		ended = math.MaxInt64
	}
	h.add(c, addressCall{a, true}, begun, ended)
}

// note notes what must not be.
func (h *history) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.findings = append(h.findings, err.Error())
}

// add adds an operation. The caller has the lock.
func (h *history) add(c *client, call addressCall, begun, ended time.Duration) {
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: c.id, Input: call, Call: int64(begun), Return: int64(ended),
	})
}

// ownership is what an address is: somebody's, who alone can release it, or nobody's.
var ownership = porcupine.Model{
	Init: func() any { return false },
	Step: func(isOwned, input, _ any) (bool, any) {
		release := input.(addressCall).release
		return isOwned.(bool) == release, !release
	},
}

// check returns the addresses of which two clients were owners at once, with what was done about them.
func (h *history) check() []string {
	findings := h.findings
	byAddress := map[netip.Addr][]porcupine.Operation{}
	for _, o := range h.operations {
		a := o.Input.(addressCall).address
		byAddress[a] = append(byAddress[a], o)
	}
	for a, operations := range byAddress {
		if porcupine.CheckOperations(ownership, operations) {
			continue
		}
		slices.SortFunc(operations, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		var b strings.Builder
		fmt.Fprintf(&b, "address %s had two owners:\n", a)
		for _, o := range operations {
			verb := "gets it"
			if o.Input.(addressCall).release {
				verb = "releases it"
			}
			begun, ended := time.Duration(o.Call), time.Duration(o.Return)
			fmt.Fprintf(&b, "%v to %v: client %d %s\n", begun, ended, o.ClientId, verb)
		}
		findings = append(findings, b.String())
	}
	return findings
}

func (h *history) summary() string {
	return fmt.Sprintf("%d addresses handed out and taken back, %d requests refused, %d calls without an answer, in %v",
		len(h.operations), h.refused, h.unknown, time.Since(h.start).Round(time.Second))
}
