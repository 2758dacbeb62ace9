// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzReadEvents: however the stream is cut into pieces it breaks in the end, with the reason for it; and it has
// signalled a change if it held an event.
func FuzzReadEvents(f *testing.F) {
	const event = `{"Type":"container","Action":"rename","Actor":{"ID":"c1"}}` + "\n"
	for _, s := range []string{"", event, event + event, event + "{", " \n" + event, "null", `{"Type":1}`, "[]"} {
		f.Add([]byte(s), []byte(event))
	}
	f.Fuzz(func(t *testing.T, noise, tail []byte) {
		for _, stream := range [][]byte{noise, append([]byte(event), noise...), append(bytes.Clone(noise), tail...)} {
			changed, byByte := make(chan struct{}, 1), make(chan struct{}, 1)
			err := readEvents(bytes.NewReader(stream), changed)
			errByByte := readEvents(iotest.OneByteReader(bytes.NewReader(stream)), byByte)
			if err == nil || errByByte == nil || err.Error() != errByByte.Error() || len(changed) != len(byByte) {
				t.Errorf("stream %q: %v and %d signals at once, %v and %d byte by byte",
					stream, err, len(changed), errByByte, len(byByte))
			}
			if len(changed) == 0 && bytes.HasPrefix(stream, []byte(event)) {
				t.Errorf("stream %q: no signal", stream)
			}
		}
	})
}

// answers is a Docker that answers GETs by the last element of their path.
type answers map[string]string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	text, ok := a[path.Base(r.URL.Path)]
	status := http.StatusOK
	if !ok {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// FuzzReadNames: an answer is refused, with the call in the error, or every name that it gives is one of the answer,
// and no container's name is that through a link of another.
func FuzzReadNames(f *testing.F) {
	f.Add(`[{"Id":"n1","Name":"net"}]`,
		`[{"Id":"c1","Names":["/proxy/web","/web"],"NetworkSettings":{"Networks":{"net":{"EndpointID":"e1"}}}}]`,
		`[{"Id":"p1","Name":"weave:1"}]`)
	f.Add(`[]`, `[{"Id":"c1","NetworkSettings":{"Networks":{"net":null}}}]`, `null`)
	f.Add(`null`, `[null]`, `{}`)
	f.Add(`[{"Id":1}]`, ``, `[`)
	f.Fuzz(func(t *testing.T, networks, containers, plugins string) {
		docker := answers{"networks": networks, "json": containers, "plugins": plugins}
		s := session{http: &http.Client{Transport: docker}, prefix: "/v1.41"}
		n, err := s.readNames(t.Context(), "p1")
		if err != nil {
			if n != nil || errors.Is(err, errGone) || !strings.Contains(err.Error(), "docker's API") {
				t.Errorf("%v with error %v", n, err)
			}
			return
		}
		for endpoint, c := range n.containers {
			if endpoint == "" || strings.Contains(c.name, "/") {
				t.Errorf("endpoint %q of container %+v", endpoint, c)
			}
		}
		without, err := s.readNames(t.Context(), "")
		if err != nil || without.plugin != "" ||
			len(without.networks) != len(n.networks) || len(without.containers) != len(n.containers) {
			t.Errorf("without a plugin: %v, %v, want but for the plugin %v", without, err, n)
		}
	})
}
