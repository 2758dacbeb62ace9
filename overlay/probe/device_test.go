// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/mac"
)

// TestDeviceComesBack: what another program does to the device lasts only for a while, whatever it is.
func TestDeviceComesBack(t *testing.T) {
	_, hosts := bridged(t, false)
	one, two := hosts[0], hosts[1]
	two.start()
	one.start()
	one.finds(two, None)
	for _, command := range []string{
		"ip link del weave-probe", "ip link set weave-probe down", "ip link set weave-probe mtu 1000",
		"bridge fdb del " + hostMAC(two.self.ID).String() + " dev weave-probe dst 192.0.2.2 self",
	} {
		one.run(command)
		before := time.Now()
		eventually(t, "host2 answers after "+command, func() error {
			if r := one.Results()[two.self.ID]; r.Fault != None || r.Probed.Sub(before) < 2*fast.entered {
				return fmt.Errorf("%+v, problems %q", r, one.Problems())
			}
			return nil
		})
	}
}

// TestDeviceOfOthers: a device that an earlier weave has left is replaced; what is somebody else's stays, and is told.
func TestDeviceOfOthers(t *testing.T) {
	_, hosts := bridged(t, false)
	one, two := hosts[0], hosts[1]
	const add = "ip link add weave-probe type vxlan id 16777215 dstport 7789 local 192.0.2.%d"
	one.run(fmt.Sprintf(add, 1), "ip link set weave-probe alias weave:"+one.self.ID+":probe")
	two.run(fmt.Sprintf(add, 2), "ip link set weave-probe alias weave:another:probe")
	one.start()
	two.start()
	eventually(t, "the foreign device is told", func() error {
		if p := two.Problems(); len(p) != 1 || !strings.Contains(p[0], "ip link delete weave-probe") {
			return fmt.Errorf("%q", p)
		}
		return nil
	})
	eventually(t, "the old device is replaced", func() error {
		if out := one.links(); !strings.Contains(out, "mtu 1430") || len(one.Problems()) > 1 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	two.run("ip link delete weave-probe")
	one.finds(two, None)
	two.finds(one, None)
	if p := two.Problems(); len(p) > 0 {
		t.Errorf("problems %q where there are none any more", p)
	}
}

// TestDeviceIsApart: the device has no address and takes nothing for the host, and it is there as long as this host is
// on a network.
func TestDeviceIsApart(t *testing.T) {
	_, hosts := bridged(t, false)
	one, two := hosts[0], hosts[1]
	one.start()
	two.start()
	one.finds(two, None)
	one.ns.Do(t, func() error {
		out, err := exec.Command("ip", "address", "show", "dev", DeviceName).CombinedOutput()
		if strings.Contains(string(out), "inet") {
			t.Errorf("it has addresses:\n%s", out)
		}
		for _, s := range isolation {
			value, readErr := os.ReadFile("/proc/sys/" + fmt.Sprintf(s.path, DeviceName))
			if strings.TrimSpace(string(value)) != s.value {
				t.Errorf("%s is %s, want %s", s.path, value, s.value)
			}
			err = errors.Join(err, readErr)
		}
		return err
	})
	one.Set(networkMTU, nil)
	eventually(t, "it leads to the other host no more", func() error {
		var rows []byte
		one.ns.Do(t, func() (err error) {
			rows, err = exec.Command("bridge", "fdb", "show", "dev", DeviceName).CombinedOutput()
			return err
		})
		if len(rows) > 0 {
			return fmt.Errorf("%s", rows)
		}
		return nil
	})
	one.Set(1400, nil)
	eventually(t, "it has another MTU", func() error {
		if out := one.links(); !strings.Contains(out, "mtu 1400") {
			return errors.New(out)
		}
		return nil
	})
	if r := one.Results(); len(r) > 0 {
		t.Errorf("results %v without a host", r)
	}
	one.Set(0, nil)
	eventually(t, "it is gone", func() error {
		if out := one.links(); strings.Contains(out, DeviceName) {
			return errors.New(out)
		}
		return nil
	})
	one.Set(networkMTU, []Host{two.self})
	one.finds(two, None)
}

// TestOnlyHostsAreAnswered: who is no host of the cluster gets no answer, and a host gets none that is longer than its
// request.
func TestOnlyHostsAreAnswered(t *testing.T) {
	_, hosts := bridged(t, false)
	one, two := hosts[0], hosts[1]
	one.Set(networkMTU, nil) // it does not ask by itself
	two.Set(networkMTU, []Host{{ID: one.self.ID, VTEP: one.self.VTEP}})
	two.pace.interval = time.Hour // nothing but a request wakes it
	two.start()
	var d *device
	one.ns.Do(t, func() (err error) {
		d, err = openDevice(one.o, networkMTU)
		return err
	})
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.enter(two.self); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other host listens", func() error { return answered(d, one.mac, two.mac, 0) })
	for i := range shapes {
		if err := answered(d, one.mac, two.mac, uint8(i)); err != nil {
			t.Errorf("shape %d: %v", i, err)
		}
	}
	for name, from := range map[string]mac.Address{"a stranger": {2, 9}, "the host itself": two.mac} {
		if err := answered(d, from, two.mac, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want no answer", name, err)
		}
	}
}

// answered sends a request and returns an error if there is no answer, or one that is too long.
func answered(d *device, from, to mac.Address, s uint8) error {
	request := message{from: from, to: to, shape: s, token: 1}.frame(networkMTU)
	if err := errors.Join(d.send(request), d.socket.SetReadDeadline(time.Now().Add(100*time.Millisecond))); err != nil {
		return err
	}
	buf := make([]byte, bufferSize)
	n, err := d.socket.Read(buf)
	if err != nil {
		return err
	}
	m, _, spoiled, ok := parse(buf[:n])
	if want := (message{from: to, to: from, answer: true, shape: s, token: 1}); m != want || !ok || spoiled {
		return fmt.Errorf("the answer is %+v, want %+v", m, want)
	}
	if n > len(request) {
		return fmt.Errorf("%d bytes are answered with %d", len(request), n)
	}
	return nil
}

// TestSocketHearsItsOwn: frames to other MACs, which strangers may flood the port with, don't get to the socket.
func TestSocketHearsItsOwn(t *testing.T) {
	_, hosts := bridged(t, false)
	var devices [2]*device
	for i, h := range hosts {
		d, err := h.open(h.o, networkMTU)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			h.ns.Do(t, d.close)
		}()
		devices[i] = d
	}
	here, there := hosts[0].self, devices[1]
	for _, id := range []string{"somebody else", here.ID} {
		at := here
		at.ID = id
		if err := there.enter(at); err != nil {
			t.Fatal(err)
		}
		m := message{from: hostMAC(hosts[1].self.ID), to: hostMAC(id)}
		if err := there.send(m.frame(smallestSize)); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, bufferSize)
	n, err := devices[0].socket.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if m, _, _, ok := parse(buf[:n]); !ok || m.to != hosts[0].mac {
		t.Errorf("the socket has got %+v, want what is for %s", m, hosts[0].mac)
	}
}
