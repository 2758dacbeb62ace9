// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// containers is the answer to a list of containers: web on two networks, and one that is only on the host's.
const containers = `[
	{"Id":"c1","Names":["/proxy/web","/web"],"NetworkSettings":{"Networks":{
		"app":{"NetworkID":"n1","EndpointID":"e1","Gateway":"<nil>"},"db":{"EndpointID":"e2"}}}},
	{"Id":"c2","Names":["/idle"],"NetworkSettings":{"Networks":{"host":{"EndpointID":""}}}}
]`

func TestNamesFollowDocker(t *testing.T) {
	d := newFakeDocker(t)
	d.set("/networks",
		`[{"Id":"n1","Name":"app","IPAM":{"Config":[{"Gateway":"fd00::1/64"}]}},{"Id":"n2","Name":"db"}]`)
	d.set("/containers/json", containers)
	d.start()
	w, _ := newWatcher(d)
	if err := w.Reachable(); !errors.Is(err, ErrNotRead) {
		t.Errorf("before the first attempt: %v, want ErrNotRead", err)
	}
	run(t, w)

	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	for endpoint, want := range map[string][2]string{"e1": {"c1", "web"}, "e2": {"c1", "web"}, "": {}, "e9": {}} {
		if id, name := w.Container(endpoint); id != want[0] || name != want[1] {
			t.Errorf("container of endpoint %q: %q %q, want %q", endpoint, id, name, want)
		}
	}
	if got := w.NetworkName("n1") + " " + w.NetworkName("n2") + " " + w.NetworkName("n9"); got != "app db " {
		t.Errorf("names of networks: %q", got)
	}

	d.set("/containers/json", strings.ReplaceAll(containers, "/web", "/www"))
	d.event()
	eventually(t, "renamed container", func() bool { _, name := w.Container("e1"); return name == "www" })
	d.set("/networks", "[]")
	d.event()
	eventually(t, "removed network", func() bool { return w.NetworkName("n1") == "" })
}

// TestAliases: aliases of endpoints on networks where they are wanted are read once, and again after a change of the
// container's name, which is one of them in Docker's API.
func TestAliases(t *testing.T) {
	d := newFakeDocker(t)
	d.set("/containers/json", strings.ReplaceAll(containers, `"EndpointID":"e2"`, `"NetworkID":"n2","EndpointID":"e2"`))
	d.set("/containers/c1/json", `{"NetworkSettings":{"Networks":{
		"app":{"EndpointID":"e1","Aliases":["www"],"DNSNames":["web","www","c1"]},
		"db":{"EndpointID":"e2","Aliases":["x"]}}}}`)
	d.start()
	w, _ := newWatcher(d)
	w.aliased = func(network string) bool { return network == "n1" }
	run(t, w)
	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	if got := w.Aliases("e1"); !slices.Equal(got, []string{"www", "web", "www", "c1"}) {
		t.Errorf("aliases %q", got)
	}
	if got := append(w.Aliases("e2"), w.Aliases("e9")...); got != nil {
		t.Errorf("aliases where none are wanted: %q", got)
	}
	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	d.event()
	eventually(t, "second reading", func() bool { return w.NetworkName("n1") == "app" })
	if got, asked := w.Aliases("e1"), d.count("/containers/c1/json"); len(got) != 4 || asked != 1 {
		t.Errorf("aliases %q after %d requests, want the same after 1", got, asked)
	}
	d.set("/containers/c1/json", `{"NetworkSettings":{"Networks":{"app":{"EndpointID":"e1","DNSNames":["new"]}}}}`)
	d.set("/containers/json", strings.ReplaceAll(containers, "/web", "/new"))
	d.event()
	eventually(t, "aliases of a renamed container", func() bool {
		return slices.Equal(w.Aliases("e1"), []string{"new"})
	})
}

// TestSpacing: where Docker tells names quickly they are read again soon, and where it is busy with that, later.
func TestSpacing(t *testing.T) {
	timing := NewWatcher(WatcherOptions{Log: logrus.NewEntry(logrus.New())}).timing
	for took, want := range map[time.Duration]time.Duration{
		time.Millisecond:       20 * time.Millisecond,
		5 * time.Millisecond:   50 * time.Millisecond,
		100 * time.Millisecond: 250 * time.Millisecond,
	} {
		if got := timing.after(took); got != want {
			t.Errorf("after a reading of %v the next one is %v later, want %v", took, got, want)
		}
	}
}

func TestEventsAreCoalesced(t *testing.T) {
	d := newFakeDocker(t)
	d.start()
	w, _ := newWatcher(d)
	w.timing.spacing, w.timing.most = 50*time.Millisecond, 50*time.Millisecond
	run(t, w)
	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	for range 500 {
		d.event()
	}
	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	d.event()
	eventually(t, "last event", func() bool { return w.NetworkName("n1") == "app" })
	if n := d.count("/networks"); n > 100 {
		t.Errorf("501 events made %d readings", n)
	}
}

// TestListLagsBehindEvent: what Docker's list has only some time after the event is known then, without another event.
func TestListLagsBehindEvent(t *testing.T) {
	d := newFakeDocker(t)
	d.start()
	w, _ := newWatcher(d)
	w.timing.lag = 50 * time.Millisecond
	run(t, w)
	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	before := d.count("/networks")
	d.event()
	eventually(t, "the event's reading", func() bool { return d.count("/networks") > before })
	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	eventually(t, "the name", func() bool { return w.NetworkName("n1") == "app" })
}

// TestRefresh: a name that Docker has when Refresh is called is known afterwards, without an event.
func TestRefresh(t *testing.T) {
	d := newFakeDocker(t)
	d.start()
	w, _ := newWatcher(d)
	w.Refresh(t.Context()) // does not wait before the first reading
	run(t, w)
	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			w.Refresh(t.Context())
			if got := w.NetworkName("n1"); got != "app" {
				t.Errorf("name %q after a new reading, want app", got)
			}
		})
	}
	group.Wait()

	d.hang("/networks", true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.Refresh(ctx) // ends with ctx
}

func TestNamesAreReadAgainWithoutEvents(t *testing.T) {
	d := newFakeDocker(t)
	d.start()
	w, _ := newWatcher(d)
	w.timing.resync = 10 * time.Millisecond
	run(t, w)
	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	eventually(t, "name of a network whose event was lost", func() bool { return w.NetworkName("n1") == "app" })
}

// TestDockerGoesAndComesBack: the names stay, are read anew, and the log has one line for each change.
func TestDockerGoesAndComesBack(t *testing.T) {
	d := newFakeDocker(t)
	w, hook := newWatcher(d)
	run(t, w)
	eventually(t, "Docker is missed", func() bool {
		err := w.Reachable()
		return err != nil && !errors.Is(err, ErrNotRead)
	})

	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	d.start()
	eventually(t, "name of a network", func() bool { return w.NetworkName("n1") == "app" })

	d.stop()
	eventually(t, "Docker is missed again", func() bool { return w.Reachable() != nil })
	if got := w.NetworkName("n1"); got != "app" {
		t.Errorf("name while Docker is away: %q, want app as before", got)
	}

	d.set("/networks", `[{"Id":"n1","Name":"new"}]`)
	d.start()
	eventually(t, "new name", func() bool { return w.NetworkName("n1") == "new" && w.Reachable() == nil })

	var got []logrus.Level
	eventually(t, "four lines in the log", func() bool { return len(hook.AllEntries()) >= 4 })
	for _, e := range hook.AllEntries() {
		got = append(got, e.Level)
	}
	want := []logrus.Level{logrus.WarnLevel, logrus.InfoLevel, logrus.WarnLevel, logrus.InfoLevel}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("levels of what was logged: %v, want %v", got, want)
	}
}

func TestDockerThatTalksNonsense(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*fakeDocker)
		want  string // part of Reachable's error
	}{
		{"too old", func(d *fakeDocker) { d.version = "1.39" }, `version "1.39": want 1.40 or newer`},
		{"no version", func(d *fakeDocker) { d.version = "" }, `version "": want 1.40 or newer`},
		{"a future it doesn't know", func(d *fakeDocker) { d.version = "2.0" }, `version "2.0"`},
		{
			"networks are not JSON", func(d *fakeDocker) { d.answers["/networks"] = "<html>" },
			"get /networks of docker's API: invalid character",
		},
		{
			"networks are another JSON", func(d *fakeDocker) { d.answers["/networks"] = `{"Id":1}` },
			"get /networks of docker's API: json: cannot unmarshal",
		},
		{
			"containers are cut off", func(d *fakeDocker) { d.answers["/containers/json"] = `[{"Id":` },
			"get /containers/json of docker's API: unexpected end",
		},
		{"no such path", func(d *fakeDocker) { delete(d.answers, "/networks") }, "it does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newFakeDocker(t)
			tt.spoil(d)
			d.start()
			w, _ := newWatcher(d)
			run(t, w)
			eventually(t, "an error that says so", func() bool {
				err := w.Reachable()
				return err != nil && strings.Contains(err.Error(), tt.want)
			})
		})
	}
}

// TestEventsThatAreNonsense: the names are right even so, since each new stream begins with a reading.
func TestEventsThatAreNonsense(t *testing.T) {
	d := newFakeDocker(t)
	d.start()
	w, hook := newWatcher(d)
	run(t, w)
	eventually(t, "first reading", func() bool { return w.Reachable() == nil })
	d.set("/networks", `[{"Id":"n1","Name":"app"}]`)
	d.say("no JSON\n")
	eventually(t, "name of a network", func() bool { return w.NetworkName("n1") == "app" })
	if err := w.Reachable(); err != nil {
		t.Errorf("reachable: %v", err)
	}
	if entries := hook.AllEntries(); len(entries) != 1 {
		t.Errorf("logged %d lines, want the one that Docker can be read", len(entries))
	}
}

func TestRunEndsWhileDockerHangs(t *testing.T) {
	for _, path := range []string{"/_ping", "/events", "/networks", "/containers/json"} {
		d := newFakeDocker(t)
		d.hang(path, true)
		d.start()
		w, _ := newWatcher(d)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		eventually(t, path+" is requested", func() bool { return d.count(path) > 0 })
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("Run goes on while %s hangs", path)
		}
	}
}

func TestAgree(t *testing.T) {
	for version, want := range map[string]int{"1.40": 40, "1.41": 41, "1.51": 51, "1.99": 51} {
		if got, err := agree(version); got != want || err != nil {
			t.Errorf("agree(%q) = %d, %v; want %d", version, got, err, want)
		}
	}
	for _, version := range []string{"", "1", "1.", "1.-5", "1.39", "1.41.2", "0.41", "2.41", "1.99999999999"} {
		if got, err := agree(version); err == nil {
			t.Errorf("agree(%q) = %d, want an error", version, got)
		}
	}
}
