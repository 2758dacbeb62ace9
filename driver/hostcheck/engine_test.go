// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"errors"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
)

func TestDocker(t *testing.T) {
	of := func(version string) facts { return facts{docker: &Docker{Version: version}} }
	check(t, ofDocker, []judged{
		{"Debian's", of("20.10.24+dfsg1"), api.CheckOK, "20.10.24+dfsg1"},
		{"new", of("29.8.1"), api.CheckOK, ""},
		{"29.0.0", of("29.0.0"), api.CheckFailed, "moby/moby#51522"},
		{"29.0.1-rc.1", of("29.0.1-rc.1"), api.CheckFailed, "moby/moby#51522"},
		{"29.0.2", of("29.0.2"), api.CheckFailed, "moby/moby#51554"},
		{"29.0.3", of("29.0.3"), api.CheckOK, ""},
		{"29.1.0", of("29.1.0"), api.CheckFailed, "moby/moby#51614"},
		{"29.1.1", of("29.1.1"), api.CheckOK, ""},
		{"old", of("19.03.15"), api.CheckWarning, "older than 20.10.0"},
		{"no version", of("dev"), api.CheckUnknown, "dev"},
		{"no answer", facts{dockerErr: errors.New("refused")}, api.CheckWarning, "refused"},
		{"without Docker's API", facts{}, api.CheckUnknown, "none"},
	})
	// 29.0.0 has two faults.
	if found := ofDocker(of("29.0.0")); len(found) != 2 {
		t.Errorf("got %+v, want two faults", found)
	}
}

func TestForgotten(t *testing.T) {
	about := func(age time.Duration, d Docker) facts {
		nw := own
		nw.Created = noon.Add(-age)
		return facts{
			now: noon, docker: &d, networks: []driver.Network{nw},
			endpoints: []endpoint{{Endpoint: driver.Endpoint{ID: "e1", HostEnd: "wve-1", Created: noon.Add(-age)}}},
		}
	}
	n1 := map[driver.NetworkID]bool{"n1": true}
	n2 := map[driver.NetworkID]bool{"n1": true, "n2": true}
	e1 := map[driver.EndpointID]bool{"e1": true}
	check(t, ofForgotten, []judged{
		{"all known", about(time.Hour, Docker{"", n1, e1}), api.CheckOK, "all 1 networks and 1 endpoints"},
		{"no endpoint", about(time.Hour, Docker{"", n1, nil}), api.CheckWarning,
			"Docker does not know endpoint e1, host end wve-1"},
		{"not listed yet", about(time.Second, Docker{"", n1, nil}), api.CheckOK, ""},
		{"no network", about(time.Hour, Docker{"", nil, e1}), api.CheckWarning, "Docker does not know network n1"},
		{"one more", about(time.Hour, Docker{"", n2, e1}), api.CheckWarning,
			"n2 of this driver, which weave does not know"},
		{"nobody knows", facts{}, api.CheckUnknown, ""},
	})
}
