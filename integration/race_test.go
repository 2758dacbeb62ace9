// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// A weave that was built with Go's race detector reports no data race while Docker and users call all of it at the same
// time, and while it and Docker are killed and started again.
func TestDataRaces(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "race", Binaries: lab.RaceBinaries(t)})
	p := h.StartPlugin(t)
	t.Cleanup(func() {
		if _, report, found := strings.Cut(p.Logged(t), "WARNING: DATA RACE"); found {
			t.Errorf("data race:\n%.10000s", report)
		}
	})
	weaveNetwork(t, h, "home", "--ipam-driver", "weave", "--ipv6")
	weaveNetwork(t, h, "other", "--internal", "-o", "works.weave.multicast=true")
	h.Run(t, "--network", "home", "--name", "one", "--restart", "always")
	h.Run(t, "--network", "home", "--name", "two", "--restart", "always")

	useAtOnce(t, h)
	p.Kill()
	p.Restart(t)
	useAtOnce(t, h)
	h.KillDocker(t)
	h.StartDocker(t)
	lab.Eventually(t, time.Minute, "one and two run again", func() error { return pingErr(h, "one", "two") })
	useAtOnce(t, h)
	p.Stop(t) // fails t if the detector has found something
	p.Restart(t)
	awaitEndpoints(t, h, 2)
	p.Stop(t)
	p.Restart(t) // for the removal of the networks
}

// useAtOnce has several users of weave work at the same time: containers and networks that come and go, listings, and
// an administrator who flushes firewall rules.
func useAtOnce(t *testing.T, h *lab.Host) {
	t.Helper()
	const rounds = 4
	docker := func(args ...string) func(name string) error {
		return func(name string) error {
			_, err := h.DockerErr(strings.Fields(strings.ReplaceAll(strings.Join(args, " "), "NAME", name))...)
			return err
		}
	}
	client := api.NewClient(h.Path(lab.APISocket))
	list := func(q api.Query) func(string) error {
		return func(string) error {
			_, err := client.Endpoints(t.Context(), q)
			return err
		}
	}
	users := [][]func(name string) error{
		{
			docker("run -d --network home --name NAME", lab.Image), docker("network connect other NAME"),
			docker("network disconnect other NAME"), docker("rm -f NAME"),
		},
		{docker("run -d --network other --name NAME", lab.Image), docker("rm -f NAME")},
		{docker("network create -d weave --ipam-driver weave NAME"), docker("network rm NAME")},
		{
			list(api.Query{}), list(api.Query{Live: api.Kernel}), list(api.Query{Live: api.Nsproc}),
			func(string) error {
				_, statusErr := client.Status(t.Context())
				_, networksErr := client.Networks(t.Context())
				return errors.Join(statusErr, networksErr)
			},
		},
		{func(string) error {
			_, err := h.ExecErr("iptables", "-w", "-F", "FORWARD")
			return err
		}},
	}
	inParallel(t, len(users), len(users), func(user int) error {
		for round := range rounds {
			for _, step := range users[user] {
				if err := step(fmt.Sprintf("user%d-%d", user, round)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
