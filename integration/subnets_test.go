// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// wayOut is the network by which Docker connects containers with the outside.
const wayOut = "docker_gwbridge"

// A subnet that docker_gwbridge has, or that Docker may give it, is refused, with advice that helps.
func TestSubnetOfTheWayOut(t *testing.T) {
	h, _ := startHost(t, "wayout")
	create := strings.Fields("network create -d weave --ipam-driver weave -o works.weave.gateway=docker --subnet")

	// docker_gwbridge is not there yet.
	_, err := h.DockerErr(append(create, "172.18.0.0/16", "app")...)
	if err == nil {
		t.Fatal("a subnet that docker_gwbridge may get was not refused")
	}
	want(t, err.Error(), "172.18.0.0/16", wayOut, "--internal")
	weaveNetwork(t, h, "inner", "--internal", "--ipam-driver", "weave", "--subnet", "172.18.0.0/16")
	h.Run(t, "--network", "inner", "--name", "inside")
	h.Docker(t, "rm", "-f", "inside")
	h.Docker(t, "network", "rm", "inner")
	dockers := []string{"-o", "works.weave.gateway=docker"}
	weaveNetwork(t, h, "dockers", append(dockers, "--subnet", "172.18.0.0/16")...) // Docker itself keeps the two apart
	h.Run(t, "--network", "dockers", "--name", "account")
	h.Docker(t, "rm", "-f", "account")
	h.Docker(t, "network", "rm", "dockers", wayOut)

	// To a network with a gateway of its own the host has a route, so that Docker chooses another subnet.
	weaveNetwork(t, h, "own", "--ipam-driver", "weave", "--subnet", "172.18.0.0/16")
	h.Run(t, "--network", "own", "--name", "published", "-p", "8080:80")
	ping(t, h, "published", poolsOf(t, h, wayOut)[0].Gateway)
	h.Docker(t, "rm", "-f", "published")
	h.Docker(t, "network", "rm", "own", wayOut)

	// As the error says.
	_, advice, found := strings.Cut(err.Error(), "that you choose: docker ")
	if !found {
		t.Fatalf("no command in the error: %v", err)
	}
	command := strings.Fields(strings.ReplaceAll(advice, "SUBNET", "10.250.0.0/24"))
	h.Docker(t, command[:slices.Index(command, wayOut)+1]...)
	weaveNetwork(t, h, "app", append(dockers, "--ipam-driver", "weave", "--subnet", "172.18.0.0/16")...)
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	ping(t, h, "one", "two")
	if got := poolsOf(t, h, wayOut); len(got) != 1 || got[0].Subnet != "10.250.0.0/24" {
		t.Errorf("docker_gwbridge has %v", got)
	}

	// docker_gwbridge is there.
	for _, subnet := range []string{"10.250.0.0/24", "10.250.0.64/26", "10.250.0.0/16"} {
		refused(t, h, append(create, subnet, "other"), subnet, "overlaps 10.250.0.0/24", wayOut)
	}
	dockersIPAM := "network create -d weave --subnet 10.250.0.0/16 --ip-range 10.250.7.0/24 other"
	refused(t, h, strings.Fields(dockersIPAM), "10.250.0.0/") // by weave, if Docker's IPAM does not

	// Docker gives a network of its own a subnet that a weave network has.
	h.CreateNetwork(t, "bridged", "--subnet", "172.18.0.0/16")
	warnings := h.Weave(t, "status")
	want(t, warnings, "subnet 172.18.0.0/16 overlaps 172.18.0.0/16 of bridge br-")
}

// Networks get no subnet of those that Docker hands out itself, unless its configuration says that it hands out others.
func TestRangeOfDockers(t *testing.T) {
	arguments := []string{"--range", "172.16.0.0/12", "--subnet-bits", "16"}
	t.Run("default", func(t *testing.T) {
		h, _ := startHost(t, "range", arguments...)
		ipamNetwork(t, h, "first")
		if p := poolsOf(t, h, "first"); len(p) != 1 || p[0].Subnet != "172.16.0.0/16" {
			t.Errorf("pools %v, want 172.16.0.0/16", p)
		}
		h.Run(t, "--network", "first", "--name", "one")
		h.Run(t, "--network", "first", "--name", "two")
		ping(t, h, "one", "two")
		second := strings.Fields("network create -d weave --ipam-driver weave second")
		refused(t, h, second, "Docker's default address pools")
	})
	t.Run("configured", func(t *testing.T) {
		t.Parallel()
		h := lab.Start(t, lab.Options{
			Name: "pools", DockerArgs: []string{"--default-address-pool", "base=172.16.0.0/15,size=24"},
		})
		h.StartPlugin(t, arguments...)
		lab.Eventually(t, 10*time.Second, "Docker's API read", func() error {
			if s := status(t, h); !s.Docker.Reachable {
				return errors.New(s.Docker.Error)
			}
			return nil
		})
		ipamNetwork(t, h, "second")
		if p := poolsOf(t, h, "second"); len(p) != 1 || p[0].Subnet != "172.18.0.0/16" {
			t.Errorf("pools %v, want 172.18.0.0/16", p)
		}
		h.Run(t, "--network", "second", "--name", "one")
		h.Run(t, "--network", "second", "--name", "two")
		ping(t, h, "one", "two")
	})
}
