// SPDX-License-Identifier: Apache-2.0

// Package browsertest has tests look at a page in Debian's headless Chromium. It is for tests only.
//
// Chromium runs in the namespaces of the test.
package browsertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/weaveplugin/weave/internal/wait"
)

// deadline is how long a tab may take for anything; a machine that is busy makes it slow.
const deadline = time.Minute

// Tab is a tab of a browser that shows a page. What the page must not do fails the test: an error or a warning of its
// scripts or of the browser, something that its Content-Security-Policy forbids, a request to elsewhere.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	origin   string
	tolerant bool // errors of requests are expected
}

// Open starts a browser that shows a page, until t ends. Without Chromium t is skipped, or fails if the environment has
// WEAVE_TEST_ROOT=1.
func Open(t testing.TB, address string) *Tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	switch {
	case err != nil && os.Getenv("WEAVE_TEST_ROOT") == "1":
		t.Fatalf("%v: integration/install.sh installs it", err)
	case err != nil:
		t.Skip(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1400, 900),
		// Nothing is looked up elsewhere, and nothing of the browser's own is asked for.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"),
		chromedp.Flag("disable-component-update", true),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	tab := &Tab{t: t, ctx: ctx, origin: u.Scheme + "://" + u.Host}
	if err := chromedp.Listen(ctx, tab.hear); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	tab.Do(call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{}),
		call(audits.Enable, cdp.Empty{}), chromedp.Navigate(address))
	return tab
}

// call is a command of the browser's as an action.
func call[P any](command cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, command, params)
		return err
	})
}

// hear fails the test if an event tells of what must not be.
func (tab *Tab) hear(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		elsewhere := !strings.HasPrefix(e.Request.URL, tab.origin+"/")
		if elsewhere && !strings.HasPrefix(e.Request.URL, "data:") && e.Request.URL != "about:blank" {
			tab.t.Errorf("a request to elsewhere: %s", e.Request.URL)
		}
	case *log.EventEntryAdded:
		if !tab.tolerant || e.Entry.Source != log.EntrySourceNetwork {
			tab.t.Errorf("the browser says: %s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		var texts []string
		for _, a := range e.Args {
			texts = append(texts, string(a.Value)+a.Description)
		}
		tab.t.Errorf("the page says: %s: %s", e.Type, strings.Join(texts, " "))
	case *runtime.EventExceptionThrown:
		d := e.ExceptionDetails
		tab.t.Errorf("a script fails: %s: %+v", d.Text, d.Exception)
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			tab.t.Errorf("against the policy: %+v", e.Issue.Details.ContentSecurityPolicyIssueDetails)
		}
	}
}

// Tolerate has requests that fail be no fault from now on, as when weave is away.
func (tab *Tab) Tolerate() {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.tolerant = true
}

// Do runs actions.
func (tab *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tab.t.Fatalf("in the browser: %v", err)
	}
}

// Text returns what a script's expression is, as a text.
func (tab *Tab) Text(expression string) string {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		tab.t.Fatalf("in the browser: %s: %v", expression, err)
	}
	return text
}

// Await waits until a script's expression is true. It asks again and again: a function that the browser would call
// itself would have to be made out of a text, which the page's policy forbids.
func (tab *Tab) Await(expression string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	for tab.Text("Boolean("+expression+")") != "true" {
		if !wait.For(ctx, 50*time.Millisecond) {
			tab.t.Fatalf("%s is not so; the page has:\n%s", expression, tab.Text("document.body.innerText"))
		}
	}
}

// Click clicks at the first element that a selector matches.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.Do(chromedp.Click(chromedp.CSS(selector)))
}

// Fill puts a text into an input, as if it were typed.
func (tab *Tab) Fill(selector, text string) {
	tab.t.Helper()
	tab.Text(fmt.Sprintf(`document.querySelector(%q).select()`, selector))
	tab.Press(kb.Backspace + text)
}

// Press presses keys, where the keyboard is.
func (tab *Tab) Press(keys string) {
	tab.t.Helper()
	for _, key := range keys {
		for _, e := range kb.Encode(key) {
			switch {
			case !unicode.IsPrint(key):
			case e.Type == kb.KeyChar:
				continue
			case e.Type == kb.KeyDown: // which enters a text, unless the page prevents it
				e.Type, e.Text = input.DispatchKeyEventTypeKeyDown, string(key)
			}
			tab.Do(call(input.DispatchKeyEvent, *e))
		}
	}
}

// Show has the page be of a size, in a light or a dark theme.
func (tab *Tab) Show(width, height int64, theme string) {
	tab.t.Helper()
	tab.Do(call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500,
	}), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
	}))
}

// Screenshot writes what the page looks like to NAME.png in the directory that the environment has in
// WEAVE_TEST_SCREENSHOTS, if it has one.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	dir := os.Getenv("WEAVE_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	// What depends on the size of the page is drawn in the frame after that is known.
	const drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](drawn, chromedp.EvalAwaitPromise)); err != nil {
		tab.t.Fatal(err)
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		tab.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		tab.t.Fatal(err)
	}
}
