// SPDX-License-Identifier: Apache-2.0

// Package firewalld has bridges in a zone of firewalld that accepts what is bridged. firewalld keeps tables of its own
// in which it refuses whatever passes between links of no zone; no rule elsewhere helps against that. Docker does the
// same for its bridges, with a zone of its own. Where firewalld does not run, nothing happens.
//
// It runs in the host's namespaces and talks to firewalld over the system's D-Bus, with the interface that
// firewalld.dbus(5) describes.
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/internal/wait"
)

// ZoneName is the zone that the bridges are put into. Every firewalld has it, and it accepts all. It opens the host to
// the containers of networks with a gateway, as Docker's own zone does to Docker's; what others send to the host is
// dropped elsewhere.
const ZoneName = "trusted"

// The names of firewalld on the bus.
const (
	service       = "org.fedoraproject.FirewallD1"
	object        = "/org/fedoraproject/FirewallD1"
	zoneInterface = service + ".zone"
)

const (
	callLimit  = 5 * time.Second
	retryPause = 5 * time.Second  // after something could not be done
	busPause   = 30 * time.Second // between looks for a bus, where there is none
)

// ownPrefixes are how the names of bridges begin that only weave makes.
var ownPrefixes = []string{"wv-", "wvg-"}

// Options are what New needs.
type Options struct {
	BusPath string // path of the socket of the system's bus
	Log     *logrus.Entry
}

// Zone keeps bridges in the zone. Its methods may be called from several goroutines at once.
type Zone struct {
	path    string
	log     *logrus.Entry
	changed chan struct{} // holds a token when Run has to look soon

	mu      sync.Mutex      // guards what follows; never held while anything waits
	wanted  *wanted         // nil before the first Set
	put     map[string]bool // what this process has put into the zone, by name
	problem error

	working *semaphore.Weighted // held while firewalld is asked
}

// New returns a Zone; it asks nothing.
func New(o Options) *Zone {
	return &Zone{
		path: o.BusPath, log: o.Log, changed: make(chan struct{}, 1), put: map[string]bool{},
		working: semaphore.NewWeighted(1),
	}
}

// wanted is never changed, only replaced.
type wanted struct {
	bridges []string
	ipv6    bool // IPv6 has to pass, too
}

// Set makes these bridges those that have to be in the zone, and what Run keeps there from then on; ipv6 says whether
// any of them carries a network with IPv6. What can't be done now is a Problem, and done by Run when it can.
func (z *Zone) Set(ctx context.Context, bridges []string, ipv6 bool) {
	z.mu.Lock()
	z.wanted = &wanted{slices.Clone(bridges), ipv6}
	z.mu.Unlock()
	if z.sync(ctx) != nil {
		z.notify()
	}
}

// Problem returns why bridges may not be in the zone now; nil where firewalld does not run. It never waits.
func (z *Zone) Problem() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.problem
}

// Run keeps what was Set until ctx ends: firewalld forgets it when it restarts or reloads its rules.
func (z *Zone) Run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := retryPause
		if err := z.follow(ctx); errors.Is(err, os.ErrNotExist) {
			pause = busPause
		}
		wait.For(ctx, pause)
	}
}

// follow acts on the bus's signals until ctx ends or the bus goes.
func (z *Zone) follow(ctx context.Context) error {
	bus, err := connect(ctx, z.path)
	if err != nil {
		return err
	}
	defer bus.Close()
	signals := make(chan *dbus.Signal, 16) // one that finds it full is left out; the others call for the same look
	bus.Signal(signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"),
			dbus.WithMatchArg(0, service)},
		{dbus.WithMatchSender(service), dbus.WithMatchInterface(service), dbus.WithMatchMember("Reloaded")},
		{dbus.WithMatchSender(service), dbus.WithMatchInterface(zoneInterface),
			dbus.WithMatchMember("InterfaceRemoved")},
	} {
		if err := bus.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("watch firewalld: %w", err)
		}
	}
	var retry <-chan time.Time // nil: nothing has failed
	z.notify()                 // what happened before is unknown
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-signals:
			if !open {
				return errors.New("the system's bus has gone")
			}
		case <-z.changed:
		case <-retry:
		}
		retry = nil
		if z.sync(ctx) != nil {
			retry = time.After(retryPause)
		}
	}
}

func (z *Zone) notify() {
	wait.Signal(z.changed)
}

// sync puts the bridges into the zone, and takes out those that are no longer wanted. It records and logs why that
// failed.
func (z *Zone) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := z.working.Acquire(ctx, 1); err != nil {
		return err
	}
	defer z.working.Release(1)
	z.mu.Lock()
	w := z.wanted
	z.mu.Unlock()
	if w == nil {
		return nil
	}
	err := z.ask(ctx, *w)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotRunning) {
		err = nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if err != nil && (z.problem == nil || z.problem.Error() != err.Error()) {
		z.log.WithError(err).Error("bridges could not be put into firewalld's zone; it may drop what containers send")
	}
	z.problem = err
	return err
}

var errNotRunning = errors.New("firewalld does not run")

func (z *Zone) ask(ctx context.Context, w wanted) error {
	bus, err := connect(ctx, z.path)
	if err != nil {
		return err
	}
	defer bus.Close()
	running := false // asked first, since a call may start a service that nobody has started
	if err := bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, service).
		Store(&running); err != nil {
		return fmt.Errorf("ask the system's bus for firewalld: %w", err)
	}
	if !running {
		return errNotRunning
	}
	var present []string
	if err := call(ctx, bus, "getInterfaces", ZoneName).Store(&present); err != nil {
		return fmt.Errorf("list firewalld's zone %s: %w", ZoneName, err)
	}
	var errs []error
	for _, name := range w.bridges {
		if !slices.Contains(present, name) {
			errs = append(errs, z.add(ctx, bus, name))
		}
	}
	for _, name := range present {
		if !slices.Contains(w.bridges, name) && z.leftOver(name) {
			errs = append(errs, z.remove(ctx, bus, name))
		}
	}
	if w.ipv6 {
		errs = append(errs, checkIPv6(ctx, bus))
	}
	return errors.Join(errs...)
}

// checkIPv6 returns an error if firewalld drops IPv6 in spite of the zone: what comes from addresses to which the host
// has no route. It has none to those of weave's networks.
func checkIPv6(ctx context.Context, bus *dbus.Conn) error {
	var value dbus.Variant
	err := bus.Object(service, object).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get",
		dbus.FlagNoAutoStart, service, "IPv6_rpfilter").Store(&value)
	if err != nil {
		return nil // a version that does not say
	}
	var filters bool
	if err := value.Store(&filters); err != nil || !filters {
		return nil
	}
	return errors.New("firewalld drops IPv6 between containers: set IPv6_rpfilter=no in " +
		"/etc/firewalld/firewalld.conf and run firewall-cmd --reload")
}

// add puts a bridge into the zone, unless somebody has put it into another one.
func (z *Zone) add(ctx context.Context, bus *dbus.Conn, bridge string) error {
	zone := ""
	if err := call(ctx, bus, "getZoneOfInterface", bridge).Store(&zone); err != nil {
		return fmt.Errorf("ask firewalld for the zone of %s: %w", bridge, err)
	}
	if zone != "" {
		return nil
	}
	if err := call(ctx, bus, "addInterface", ZoneName, bridge).Err; err != nil {
		return fmt.Errorf("put %s into firewalld's zone %s: %w", bridge, ZoneName, err)
	}
	z.mark(bridge, true)
	z.log.WithFields(logrus.Fields{"bridge": bridge, "zone": ZoneName}).Info("put a bridge into firewalld's zone")
	return nil
}

func (z *Zone) remove(ctx context.Context, bus *dbus.Conn, bridge string) error {
	err := call(ctx, bus, "removeInterface", ZoneName, bridge).Err
	if err != nil && !strings.Contains(err.Error(), "UNKNOWN_INTERFACE") { // it went by itself
		return fmt.Errorf("take %s out of firewalld's zone %s: %w", bridge, ZoneName, err)
	}
	z.mark(bridge, false)
	return nil
}

// leftOver reports whether a link that is in the zone and not wanted there was put there by weave: by this process, or
// by an earlier one for a bridge that is gone.
func (z *Zone) leftOver(name string) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.put[name] {
		return true
	}
	_, err := net.InterfaceByName(name)
	isOwn := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	return err != nil && slices.ContainsFunc(ownPrefixes, isOwn)
}

// mark remembers whether this process has put a link into the zone.
func (z *Zone) mark(name string, put bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.put[name] = put
}

func call(ctx context.Context, bus *dbus.Conn, method string, args ...any) *dbus.Call {
	return bus.Object(service, object).CallWithContext(ctx, zoneInterface+"."+method, dbus.FlagNoAutoStart, args...)
}

// connect connects to the system's bus; the connection ends with ctx. The error is os.ErrNotExist where there is none.
func connect(ctx context.Context, path string) (*dbus.Conn, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	bus, err := dbus.Dial("unix:path="+path, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to the system's bus: %w", err)
	}
	err = bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = bus.Hello()
	}
	if err != nil {
		bus.Close()
		return nil, fmt.Errorf("connect to the system's bus: %w", err)
	}
	return bus, nil
}
