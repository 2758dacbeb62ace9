// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// TestOlderStateIsPutBack: a copy of the state from before the last network and the last addresses is put back beside
// running containers, as from a backup. No container loses a packet, the missing network is taken up, and no new
// container gets an address that is in use.
func TestOlderStateIsPutBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		older func(t *testing.T, h *lab.Host, p *lab.Plugin) // copies the state to where putBack has it from
	}{
		{"of this installation", func(t *testing.T, h *lab.Host, p *lab.Plugin) {
			p.Stop(t)
			copyFile(t, h.Path(statePath), h.Path(statePath+".older"))
			p.Restart(t)
		}},
		{"of an earlier installation", func(t *testing.T, h *lab.Host, p *lab.Plugin) {
			p.Stop(t)
			if err := os.Rename(h.Path(statePath), h.Path(statePath+".older")); err != nil {
				t.Fatal(err)
			}
			p.Restart(t)
			lab.Eventually(t, 30*time.Second, "a new state with the networks that Docker has", func() error {
				if n := len(status(t, h).Warnings); n > 0 {
					return fmt.Errorf("%d warnings", n)
				}
				if got := networkNames(t, h); !slices.Equal(got, []string{"kept"}) {
					return fmt.Errorf("networks %v", got)
				}
				return nil
			})
			awaitEndpoints(t, h, 1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, p := startHost(t, "putback")
			ipamNetwork(t, h, "kept", "--internal")
			h.Run(t, "--network", "kept", "--name", "one")
			awaitEndpoints(t, h, 1)
			c.older(t, h, p)
			h.Run(t, "--network", "kept", "--name", "two")
			ipamNetwork(t, h, "later", "--internal")
			h.Run(t, "--network", "later", "--name", "three")
			h.Run(t, "--network", "later", "--name", "four")
			awaitRunning(t, h, "one", "two")
			awaitRunning(t, h, "three", "four")
			before := awaitEndpoints(t, h, 4)
			bridges := linksOf(t, h, "wv-")
			of := func(container string) api.Endpoint { return endpointOf(t, before, container) }
			running := startPings(t, h, "0.05",
				[2]api.Endpoint{of("one"), of("two")}, [2]api.Endpoint{of("three"), of("four")})

			p.Stop(t)
			copyFile(t, h.Path(statePath+".older"), h.Path(statePath))
			p.Restart(t)
			next := h.Run(t, "--network", "kept") // before weave could ask Docker
			for _, ep := range before {
				for _, a := range ep.Addresses {
					if got := attachmentOf(t, h, next, "kept").IPAddress; got == a.Addr().String() {
						t.Errorf("the next container got %s, which is in use", got)
					}
				}
			}
			lab.Eventually(t, 30*time.Second, "the network is taken up", func() error {
				if got := networkNames(t, h); !slices.Equal(got, []string{"kept", "later"}) {
					return fmt.Errorf("networks %v", got)
				}
				if w := status(t, h).Warnings; len(w) > 0 {
					return errors.New(strings.Join(w, "; "))
				}
				return nil
			})
			after := awaitEndpoints(t, h, 5)
			for _, ep := range before {
				got := endpointOf(t, after, ep.ContainerName)
				if got.ID != ep.ID || !slices.Equal(got.Addresses, ep.Addresses) {
					t.Errorf("endpoint %+v, was %+v", got, ep)
				}
			}
			h.Run(t, "--network", "later", "--name", "five")
			ping(t, h, "five", "three")
			ping(t, h, "three", "five")
			running.stop(t, "an older state was put back")
			if got := linksOf(t, h, "wv-"); !sameSet(got, bridges) {
				t.Errorf("bridges %v, were %v", got, bridges)
			}
			addresses := map[string]bool{}
			for _, ep := range awaitEndpoints(t, h, 6) {
				for _, a := range ep.Addresses {
					if addresses[a.String()] {
						t.Errorf("two endpoints have %s", a)
					}
					addresses[a.String()] = true
				}
			}
			if logged := p.Logged(t); strings.Contains(logged, "reconcile: removed") {
				t.Error("the start has removed something")
			}
		})
	}
}

// TestPutBackStateHasWhatDockerRemovedSince: networks of an older copy that Docker does not have any more go.
func TestPutBackStateHasWhatDockerRemovedSince(t *testing.T) {
	h, p := startHost(t, "removed")
	h.Docker(t, "network", "create", "-d", "weave", "--ipam-driver", "weave", "--subnet", "10.70.0.0/16", "old")
	p.Stop(t)
	copyFile(t, h.Path(statePath), h.Path(statePath+".older"))
	p.Restart(t)
	h.Docker(t, "network", "rm", "old")
	ipamNetwork(t, h, "new", "--subnet", "10.70.1.0/24", "--internal") // within the old one's
	h.Run(t, "--network", "new", "--name", "one")
	before := awaitEndpoints(t, h, 1)
	p.Stop(t)
	copyFile(t, h.Path(statePath+".older"), h.Path(statePath))
	p.Restart(t)
	awaitDockersAPI(t, h)
	// As long as weave holds the old network for one that Docker is making, the new one has no addresses.
	lab.Eventually(t, 2*time.Minute, "a container on the new network", func() error {
		_, err := h.DockerErr("run", "-d", "--network", "new", "--name", "two", lab.Image)
		if err != nil {
			want(t, err.Error(), "10.70.1.0/24", "weave asks Docker now")
			_, rmErr := h.DockerErr("rm", "-f", "two")
			return errors.Join(err, rmErr)
		}
		t.Cleanup(func() { h.Docker(t, "rm", "-f", "two") })
		return err
	})
	if found := networksOf(t, h); len(found) != 1 {
		t.Errorf("networks %+v, want the new one only", found)
	}
	if got := linksOf(t, h, "wv-"); len(got) != 1 {
		t.Errorf("bridges %v, want that of the new network only", got)
	}
	after := awaitEndpoints(t, h, 2)
	if ids := []string{after[0].ID, after[1].ID}; !slices.Contains(ids, before[0].ID) {
		t.Errorf("endpoints %v, want %s among them", ids, before[0].ID)
	}
	awaitRunning(t, h, "one", "two")
}

// TestDockerLosesItsNetworks: the file in which Docker keeps its networks is removed, which is the usual advice for a
// broken Docker, and the networks are made again.
func TestDockerLosesItsNetworks(t *testing.T) {
	h, _ := startHost(t, "lost")
	create := []string{"network", "create", "-d", "weave", "--ipam-driver", "weave", "--subnet", "10.71.0.0/24", "app"}
	h.Docker(t, create...)
	h.Run(t, "--network", "app", "--name", "one")
	awaitEndpoints(t, h, 1)
	h.Docker(t, "rm", "-f", "one")
	h.StopDocker(t)
	stores, err := filepath.Glob(h.Path("/var/lib/docker/network/files/*.db"))
	if err != nil || len(stores) == 0 {
		t.Fatalf("Docker's files %v, %v, want some", stores, err)
	}
	for _, path := range stores {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	h.StartDocker(t)
	createdAgain(t, h, create)
}

// TestNetworkIsRemovedWhileWeaveIsAway: Docker removes a network all the same, and weave learns of it when its subnet
// is asked for.
func TestNetworkIsRemovedWhileWeaveIsAway(t *testing.T) {
	h, p := startHost(t, "away")
	create := []string{"network", "create", "-d", "weave", "--ipam-driver", "weave", "--subnet", "10.72.0.0/24",
		"-o", "works.weave.bridge=away0", "app"}
	h.Docker(t, create...)
	p.Stop(t)
	h.Docker(t, "network", "rm", "app")
	p.Restart(t)
	createdAgain(t, h, create)
}

// createdAgain creates a network that weave may still track. It may be refused for as long as weave takes to ask
// Docker, with an error that says so.
func createdAgain(t *testing.T, h *lab.Host, create []string) {
	t.Helper()
	awaitDockersAPI(t, h)
	name := create[len(create)-1]
	began := time.Now()
	tries := 0
	lab.Eventually(t, 20*time.Second, "network "+name+" is created again", func() error {
		tries++
		_, err := h.DockerErr(create...)
		if err != nil {
			want(t, err.Error(), "weave asks Docker now")
		}
		return err
	})
	t.Logf("created again after %v, at try %d", time.Since(began).Round(time.Millisecond), tries)
	t.Cleanup(func() { h.Docker(t, "network", "rm", name) })
	h.Run(t, "--network", name, "--name", "first")
	h.Run(t, "--network", name, "--name", "second")
	awaitRunning(t, h, "first", "second")
	awaitEndpoints(t, h, 2)
}

// networkNames returns the names of the networks that weave tracks, in order.
func networkNames(t *testing.T, h *lab.Host) []string {
	t.Helper()
	found := strings.Fields(h.Weave(t, "networks", "--format", "{{.Name}}"))
	slices.Sort(found)
	return found
}

// endpointOf returns the endpoint of a container, by its name.
func endpointOf(t *testing.T, found []api.Endpoint, container string) api.Endpoint {
	t.Helper()
	i := slices.IndexFunc(found, func(ep api.Endpoint) bool { return ep.ContainerName == container })
	if i < 0 {
		t.Fatalf("no endpoint of container %s among %+v", container, found)
	}
	return found[i]
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitDockersAPI waits until weave can ask Docker, as it can't in its first moments.
func awaitDockersAPI(t *testing.T, h *lab.Host) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "weave reads Docker's API", func() error {
		reachable, err := h.WeaveErr("status", "--format", "{{.Docker.Reachable}}")
		if err == nil && reachable != "true" {
			err = errors.New("it can't")
		}
		return err
	})
}
