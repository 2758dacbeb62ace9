// SPDX-License-Identifier: Apache-2.0

package cluster

import "testing"

// TestParseHost: a host has an address that other hosts can send to.
func TestParseHost(t *testing.T) {
	for vtep, ok := range map[string]bool{
		"192.0.2.1": true, "10.0.0.1": true, "fd00::1": true, "::ffff:192.0.2.1": true,
		"": false, "0.0.0.0": false, "127.0.0.1": false, "::1": false, "169.254.1.1": false, "fe80::1%eth0": false,
		"fd00::1%eth0": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false,
	} {
		h, err := parseHost("hosts/h1", "hosts/", []byte(`{"vtep":"`+vtep+`"}`))
		if (err == nil) != ok || h.VTEP.Is4In6() {
			t.Errorf("VTEP %q: %+v, %v, want it to be taken: %v", vtep, h, err, ok)
		}
	}
}
