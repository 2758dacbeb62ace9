// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"strings"
	"testing"
)

// JoinSwarm makes hosts on one underlay nodes of a new swarm, whose only manager is the first.
func JoinSwarm(t testing.TB, manager *Host, workers ...*Host) {
	t.Helper()
	address := manager.options.Address.Addr().String()
	manager.Docker(t, "swarm", "init", "--advertise-addr", address)
	token := strings.TrimSpace(manager.Docker(t, "swarm", "join-token", "-q", "worker"))
	for _, h := range workers {
		h.Docker(t, "swarm", "join", "--advertise-addr", h.options.Address.Addr().String(), "--token", token,
			address+":2377")
	}
}
