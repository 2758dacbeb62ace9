// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/browsertest"
)

// TestPage: a browser shows real containers, what happens to them, and where the way between two is broken.
func TestPage(t *testing.T) {
	const address = "127.0.0.1:9784"
	h, plugin := startHost(t, "page", "--http-address="+address)
	weaveNetwork(t, h, "app")
	weaveNetwork(t, h, "vault", "--internal")
	start := func(name, network string) api.Endpoint {
		h.RunCommand(t, []string{"--network", network, "--name", name}, "httpd", "-f", "-p", "80")
		return endpoints(t, h, api.Query{Containers: []string{name}})[0]
	}
	ada, bob, safe := start("ada", "app"), start("bob", "app"), start("safe", "vault")
	awaitEndpoints(t, h, 3)
	tab := browsertest.Open(t, "http://"+h.Forward(t, address))
	cell := func(name, column string) string {
		return fmt.Sprintf(`[...document.querySelectorAll('#table tbody tr')]`+
			`.find(r => r.cells[0].innerText === %q)?.querySelector('.%s').innerText`, name, column)
	}
	tab.Await(`document.body.className === 'live'`)
	tab.Await(cell("ada", "addresses") + ` === '` + ada.Addresses[0].String() + `'`)
	tab.Await(cell("ada", "drift") + ` === 'none'`)
	tab.Await(cell("ada", "link") + ` === 'up'`)
	if got := tab.Text(cell("safe", "hostend")); got != safe.HostEnd {
		t.Errorf("host end of safe: %s, want %s", got, safe.HostEnd)
	}

	// A container comes and goes.
	start("eve", "app")
	tab.Await(cell("eve", "state") + ` === 'up'`)
	h.Docker(t, "rm", "-f", "eve")
	tab.Await(`!` + cell("eve", "state"))

	// What it sends is there, of the endpoint that is selected as a chart.
	h.Docker(t, "exec", "ada", "ping", "-c", "30", "-i", "0.1", "-s", "1000", "-W", "2", "bob")
	tab.Await(`['0', '–'].includes(` + cell("safe", "sent") + `)`)
	tab.Await(`document.querySelector('#table tbody button')`)
	tab.Text(`[...document.querySelectorAll('#table tbody button')].find(b => b.innerText === 'ada').click()`)
	tab.Await(`/[1-9]\d* kB in all/.test(document.querySelector('#details').innerText)`)
	tab.Await(`document.querySelector('#details .uplot canvas')`)

	// Drift that is caused for real, in words, and gone again.
	nsenterContainer(t, h, "ada", "ip addr del "+ada.Addresses[0].String()+" dev eth0")
	tab.Await(cell("ada", "drift") + `.includes('address ` + ada.Addresses[0].String() + ` missing')`)
	tab.Screenshot("real-drift")
	tab.Await(cell("ada", "drift") + `.includes('default route missing')`) // it went with the address
	nsenterContainer(t, h, "ada", "ip addr add "+ada.Addresses[0].String()+" dev eth0")
	nsenterContainer(t, h, "ada", "ip route add default via "+ada.Gateway)
	tab.Await(cell("ada", "drift") + ` === 'none'`)

	// A check finds nothing, and then the fault, where it is.
	tab.Click("#tab-check")
	tab.Fill("#question [name=from]", "ada")
	tab.Fill("#question [name=to]", "bob")
	tab.Fill("#question [name=port]", "80")
	tab.Press(kb.Enter)
	tab.Await(`document.querySelector('#verdict .sum')`)
	if got := tab.Text(`document.querySelectorAll('#verdict .failed').length`); got != "0" {
		t.Errorf("%s layers fail: %s", got, tab.Text(`document.querySelector('#verdict').innerText`))
	}
	nsenterContainer(t, h, "bob", "ip link set eth0 down")
	tab.Click("#question button")
	tab.Await(`document.querySelector('.station.failed')`)
	for what, want := range map[string]string{
		`document.querySelector('.station.failed b').innerText`:     "bob",
		`document.querySelector('.station.failed .more').innerText`: fmt.Sprintf("%s, port 80", bob.Addresses[0]),
		`document.querySelector('.first strong').innerText.trim()`:  "fails here",
		`document.querySelector('.sum').innerText.split(':')[0]`:    "✗ to fails",
	} {
		if got := tab.Text(what); got != want {
			t.Errorf("%s is %q, want %q", what, got, want)
		}
	}
	tab.Screenshot("real-check")
	tab.Click("#tab-endpoints")
	tab.Await(cell("bob", "link") + ` === 'no carrier'`)
	nsenterContainer(t, h, "bob", "ip link set eth0 up")
	tab.Await(cell("bob", "link") + ` === 'up'`)

	// What ada reaches.
	tab.Click("#tab-reach")
	tab.Fill("#who", "ada")
	tab.Await(`document.querySelector('#reached').innerText.includes('none of these networks') && ` +
		`document.querySelectorAll('#reached tbody tr').length === 2`) // bob, and outside
	tab.Click("#tab-graph")
	tab.Await(`document.querySelector('#canvas').ariaLabel?.includes('2 networks and 3 endpoints')`)

	// weave is replaced, and the page goes on by itself.
	tab.Tolerate()
	plugin.Stop(t)
	tab.Await(`document.querySelector('#connection').innerText.startsWith('✗ Connection lost')`)
	plugin.Restart(t)
	tab.Await(`document.body.className === 'live'`)
	h.RunCommand(t, []string{"--network", "app", "--name", "late"}, "sleep", "3600")
	tab.Click("#tab-endpoints")
	tab.Await(cell("late", "state") + ` === 'up'`)
}
