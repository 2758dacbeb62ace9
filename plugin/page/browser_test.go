// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/browsertest"
)

// Expressions about the page.
const (
	names     = `[...document.querySelectorAll('#table tbody th')].map(e => e.innerText)`
	connected = `document.body.className === 'live'`
	focused   = `document.activeElement.innerText`
)

// cell is the text of a column in the row of a container.
func cell(name, column string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('#table tbody tr')].find(r => r.cells[0].innerText === %q)`+
		`?.querySelector('.%s').innerText`, name, column)
}

// show has the page be of each size and theme that people have, for screenshots.
func show(tab *browsertest.Tab, name string) {
	for _, theme := range []string{"light", "dark"} {
		tab.Show(1400, 900, theme)
		tab.Screenshot(name + "-" + theme)
	}
	tab.Show(390, 844, "light")
	tab.Screenshot(name + "-phone")
	tab.Show(1400, 900, "light")
}

// TestTable: it has all endpoints, is sorted and filtered, follows the keyboard, and shows what happens.
func TestTable(t *testing.T) {
	h := newHost(197)
	h.tell(api.Event{
		Type: api.DriftEvent, Action: api.ActionFound, Drift: api.RouteMissing, Text: "default route missing",
		Time: time.Now().Add(-time.Minute),
	}, h.Endpoints()[3])
	tab := browsertest.Open(t, h.serve(t, "").URL)
	tab.Await(connected)
	tab.Await(names + `.length === 197`)
	tab.Await(cell("frontend-7", "drift") + ` === 'address 10.32.0.8/16 missing'`)
	tab.Await(cell("frontend-4", "drift") + ` === 'default route missing'`) // which was told before
	tab.Await(cell("frontend-1", "drift") + ` === 'none'`)
	tab.Await(cell("frontend-1", "link") + ` === 'up'`)

	// Sorted by the buttons of the columns, up and down.
	sort := func(column, want, first string) {
		t.Helper()
		tab.Click("#table thead ." + column + " button")
		got := tab.Text(`document.querySelector('#table thead .` + column + `').getAttribute('aria-sort')`)
		if got != want {
			t.Errorf("sorted by %s: %s, want %s", column, got, want)
		}
		if got := tab.Text(names + "[0]"); got != first {
			t.Errorf("sorted by %s: %s is first, want %s", column, got, first)
		}
	}
	sort("name", "ascending", "backend-10")
	sort("name", "descending", "queue-9")
	sort("addresses", "ascending", "frontend-1")
	sort("mac", "ascending", "frontend-1")
	sort("mac", "descending", "queue-47")
	tab.Await(cell("frontend-2", "sent") + ` !== '–'`)
	tab.Click("#table thead .sent button")
	tab.Await(`document.querySelector('#table tbody .sent').innerText.endsWith('kB/s')`)
	sort("network", "ascending", "frontend-2") // is on both

	// The keyboard: / leads to the filter, an arrow from there into the table, and Enter selects.
	tab.Click("h1")
	tab.Press("/")
	tab.Press("metrics 102")
	tab.Await(names + `.length < 12`)
	if got := tab.Text(`document.querySelector('#count').innerText`); got != "1 of 197 endpoints" {
		t.Errorf("count: %q", got)
	}
	tab.Press(kb.Escape)
	tab.Await(names + `.length === 197`)
	tab.Press("cache")
	tab.Await(`document.querySelector('#count').innerText === '0 of 197 endpoints'`)
	tab.Press(kb.Escape)
	tab.Press("frontend-1")
	tab.Await(names + `.length > 5`)
	tab.Press(kb.ArrowDown)
	tab.Press(kb.ArrowDown)
	second := tab.Text(names + "[1]")
	if got := tab.Text(focused); got != second {
		t.Errorf("after two arrows the keyboard is at %q, want %q", got, second)
	}
	tab.Press(kb.Enter)
	tab.Await(`document.querySelector('#details h2')?.innerText === ` + strconv.Quote(second))
	tab.Await(`document.querySelector('#details .uplot canvas')`)
	if got := tab.Text(`document.querySelectorAll('#table tbody [aria-current=true]').length`); got != "1" {
		t.Errorf("%s rows are selected", got)
	}
	tab.Fill("#filter", "")

	// What happens is there at once, and what is gone is not.
	h.start(197, "newcomer")
	tab.Await(cell("newcomer", "state") + ` === 'up'`)
	e := h.Endpoints()[197]
	h.start(198, "") // whose name Docker tells later
	tab.Await(names + `.some(n => n.startsWith('cccc'))`)
	h.name(198, "named later")
	tab.Await(cell("named later", "state") + ` === 'up'`)
	h.end()
	drift := api.Event{Type: api.DriftEvent, Action: api.ActionFound, Drift: api.ContainerEndDown, Text: "eth0 down"}
	h.tell(drift, e)
	tab.Await(cell("newcomer", "drift") + `.includes('eth0 down')`)
	const news = "newcomer on queue: drift found: eth0 down"
	if got := tab.Text(`document.querySelector('#news').textContent`); got != news {
		t.Errorf("read out is %q, want %q", got, news)
	}
	drift.Action = api.ActionGone
	h.tell(drift, e)
	tab.Await(cell("newcomer", "drift") + ` === 'none'`)
	h.end()
	tab.Await(`!` + cell("newcomer", "drift"))
	h.tell(api.Event{Type: api.ErrorEvent, Action: api.ActionFailed, Text: "no subnet is free"}, e)
	show(tab, "table")
	tab.Click("#tab-events")
	tab.Await(`document.querySelectorAll('#events tbody tr').length === 7`)
	tab.Await(connected) // though an event of the browser's is called error, too
	show(tab, "events")
}

// TestPath: the verdict of a check is drawn where it is on the way, and in words.
func TestPath(t *testing.T) {
	tab := browsertest.Open(t, newHost(60).serve(t, "").URL)
	tab.Await(names + `.length === 60`)
	tab.Click("#table tbody button")
	tab.Click("#details .actions button")
	tab.Await(`document.querySelector('#question [name=from]').value === 'frontend-2'`)
	tab.Fill("#question [name=to]", "backend-3")
	tab.Fill("#question [name=port]", "80")
	tab.Press(kb.Enter)
	tab.Await(`document.querySelector('.station.failed')`)
	const sum = "✗ firewall fails: 3 packets were dropped by -A FORWARD -j DROP"
	const advice = "What to do: allow it in DOCKER-USER"
	const stations = "frontend-2 wve-00000000050 wv-aaaa00000001 wve-00000000052 backend-3"
	for what, want := range map[string]string{
		`document.querySelectorAll('.station').length`:                                 "5",
		`document.querySelector('.station.failed b').innerText`:                        "wv-aaaa00000001",
		`document.querySelector('.station .first strong').innerText.trim()`:            "fails here",
		`document.querySelector('.sum').innerText`:                                     sum,
		`document.querySelector('#verdict > .advice').innerText`:                       advice,
		`document.querySelectorAll('.layers tbody tr').length`:                         "8",
		`document.querySelector('.station:last-child .more').innerText`:                "10.33.0.4/16, port 80",
		`[...document.querySelectorAll('.station b')].map(e => e.innerText).join(' ')`: stations,
	} {
		if got := tab.Text(what); got != want {
			t.Errorf("%s is %q, want %q", what, got, want)
		}
	}
	show(tab, "check")
	tab.Tolerate()
	tab.Fill("#question [name=to]", "nobody")
	tab.Press(kb.Enter)
	tab.Await(`document.querySelector('.sum')?.innerText.includes('neither an endpoint')`)
}

// TestReach: what a container reaches is by network, with what is known against it, and each way can be checked.
func TestReach(t *testing.T) {
	h := newHost(60)
	tab := browsertest.Open(t, h.serve(t, "").URL)
	tab.Await(names + `.length === 60`)
	tab.Click("#tab-reach")
	tab.Fill("#who", "frontend-2")
	tab.Await(`document.querySelectorAll('#reached tbody tr').length === 50 + 10`) // on both networks, and the ways out
	row := `[...document.querySelectorAll('#reached tbody tr')].find(r => r.innerText.startsWith('frontend-7\t'))`
	tab.Await(row + `.querySelector('.bad').innerText === '✗ address 10.32.0.8/16 missing'`)
	tab.Text(row + `.querySelector('button').click()`)
	tab.Await(row + `.innerText.includes('✗ firewall fails')`)
	show(tab, "reach")
}

// TestLost: the page says when weave is away, and since when; and goes on when it is back.
func TestLost(t *testing.T) {
	h := newHost(60)
	s := h.serve(t, "")
	tab := browsertest.Open(t, s.URL)
	tab.Await(connected)
	tab.Tolerate()
	h.events.Close() // as weave does when it stops
	tab.Await(`document.querySelector('#connection').innerText.startsWith('✗ Connection lost at')`)
	address := s.Listener.Addr().String()
	s.CloseClientConnections()
	s.Listener.Close()
	tab.Await(`document.querySelector('#connection').innerText.startsWith('✗ Connection lost at')`)
	tab.Await(`/What you see is \d+ s old/.test(document.querySelector('#age').innerText)`)
	tab.Screenshot("lost")
	newHost(70).serve(t, address)
	tab.Await(connected)
	tab.Await(names + `.length === 70`)
}

// TestLayout: nodes don't cover each other, and stay where they are when others come and go.
func TestLayout(t *testing.T) {
	tab := browsertest.Open(t, newHost(1).serve(t, "").URL)
	tab.Text(`import('./layout.js').then(({ Layout }) => {
		const leaves = (hub, n) => [hub, Array.from({ length: n }, (_, i) => hub + '-' + i)];
		const layout = new Layout();
		const before = layout.place([leaves('a', 30), leaves('b', 200), leaves('c', 3), ['d', []]], 2);
		let nearest = Infinity;
		for (const [x, p] of before) for (const [y, q] of before) {
			if (x < y) nearest = Math.min(nearest, Math.hypot(p.x - q.x, 2.2 * (p.y - q.y)));
		}
		const moved = (after) => [...after].filter(([id, p]) =>
			before.has(id) && (before.get(id).x !== p.x || before.get(id).y !== p.y)).map(([id]) => id);
		const gone = leaves('a', 30);
		gone[1].splice(5, 10);
		gone[1].push('new-1', 'new-2');
		const after = layout.place([gone, leaves('b', 200), leaves('c', 3), ['d', ['b-1']]], 2);
		window.result = { nearest, moved: moved(after), seats: before.size + ' ' + after.size,
			refilled: after.get('new-1').x === before.get('a-5').x,
			network: moved(layout.place([leaves('b', 200)], 2)) };
	})`)
	tab.Await(`window.result`)
	if got := tab.Text(`result.nearest > 60`); got != "true" {
		t.Errorf("two nodes are %s apart", tab.Text(`result.nearest`))
	}
	for what, want := range map[string]string{
		`result.moved`: "", `result.network`: "", `result.seats`: "237 229", `result.refilled`: "true",
	} {
		if got := tab.Text(what); got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
}

// TestThousand: a thousand endpoints are listed and drawn, and the page answers meanwhile.
func TestThousand(t *testing.T) {
	for _, count := range []int{200, 1000} {
		t.Run(strconv.Itoa(count), func(t *testing.T) {
			h := newHost(count)
			tab := browsertest.Open(t, h.serve(t, "").URL)
			begun := time.Now()
			tab.Await(names + `.length === ` + strconv.Itoa(count))
			t.Log("table after", time.Since(begun))
			begun = time.Now()
			tab.Fill("#filter", "backend-17")
			tab.Await(names + `.length <= 2`)
			t.Log("filter after", time.Since(begun))
			tab.Click("#tab-graph")
			begun = time.Now()
			tab.Await(`document.querySelector('#canvas').ariaLabel?.includes('` + strconv.Itoa(count) + ` endpoints')`)
			t.Log("graph after", time.Since(begun))
			show(tab, "graph-"+strconv.Itoa(count))
		})
	}
}
