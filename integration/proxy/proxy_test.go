// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

func TestTranslate(t *testing.T) {
	for _, c := range []struct{ name, request, want, dropped string }{
		{"no driver", `{"Name":"n"}`, `{"Name":"n","Driver":"weave","Options":{}}`, ""},
		{"empty driver", `{"Name":"n","Driver":"","Options":null}`, `{"Name":"n","Driver":"weave","Options":{}}`, ""},
		{"bridge", `{"Name":"n","Driver":"bridge","Internal":true,
				"IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]},"Labels":{"a":"b"}}`,
			`{"Name":"n","Driver":"weave","Options":{},"Internal":true,
				"IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]},"Labels":{"a":"b"}}`, ""},
		{"options", `{"Driver":"bridge","Options":{
				"com.docker.network.bridge.name":"br","com.docker.network.driver.mtu":"1400","other":"kept",
				"com.docker.network.bridge.enable_icc":"true",
				"com.docker.network.bridge.enable_ip_masquerade":"false"}}`,
			`{"Driver":"weave","Options":{
				"works.weave.bridge":"br","com.docker.network.driver.mtu":"1400","other":"kept"}}`,
			"com.docker.network.bridge.enable_icc com.docker.network.bridge.enable_ip_masquerade"},
		{"another driver", `{"Driver":"macvlan","Options":{"com.docker.network.bridge.name":"br"}}`,
			`{"Driver":"macvlan","Options":{"com.docker.network.bridge.name":"br"}}`, ""},
		{"driver is no text", `{"Driver":7}`, `{"Driver":7}`, ""},
		{"options are no texts", `{"Options":{"a":1}}`, `{"Options":{"a":1}}`, ""},
		{"null", `null`, `null`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, dropped := translate([]byte(c.request), "weave")
			if diff := cmp.Diff(decode(t, c.want), decode(t, string(got))); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got := strings.Join(dropped, " "); got != c.dropped {
				t.Errorf("dropped %q, want %q", got, c.dropped)
			}
		})
	}
	if got, _ := translate([]byte("no JSON"), "weave"); string(got) != "no JSON" {
		t.Errorf("a request that is no JSON becomes %q", got)
	}
}

func decode(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// through serves handler as Docker's API and returns a connection to a proxy for it.
func through(t *testing.T, handler http.HandlerFunc) net.Conn {
	t.Helper()
	docker := filepath.Join(t.TempDir(), "docker.sock")
	log := logrus.New()
	log.SetOutput(t.Output())
	for path, h := range map[string]http.Handler{
		docker: handler, docker + ".proxy": newProxy(docker, "weave", logrus.NewEntry(log)),
	} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: h}
		served := make(chan error)
		go func() { served <- s.Serve(l) }()
		t.Cleanup(func() {
			_ = s.Close()
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
	client, err := net.Dial("unix", docker+".proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// send writes text to a connection.
func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

func TestNetworkCreateIsTranslated(t *testing.T) {
	for _, path := range []string{"/networks/create", "/v1.41/networks/create"} {
		c := through(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %d %s %v", r.URL, r.ContentLength-int64(len(body)), body, err)
		})
		request := `{"Name":"n"}`
		send(t, c, fmt.Sprintf("POST %s?a=b HTTP/1.1\r\nHost: docker\r\nContent-Length: %d\r\n\r\n%s",
			path, len(request), request))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		if want := path + `?a=b 0 {"Driver":"weave","Name":"n","Options":{}} <nil>`; err != nil || string(got) != want {
			t.Errorf("Docker got %s (%v), want %s", got, err, want)
		}
	}
}

// An upgraded connection, as for `docker exec -i`, passes bytes in both directions. Each direction has an end of its
// own.
func TestConnectionIsUpgraded(t *testing.T) {
	c := through(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		send(t, conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"+
			"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		input, err := io.ReadAll(buffered)
		send(t, conn, fmt.Sprintf("%s to %s, %v", input, r.URL.Path, err))
	})
	send(t, c, "POST /v1.41/exec/1/start HTTP/1.1\r\nHost: docker\r\n"+
		"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %+v, %v", response, err)
	}
	send(t, c, "hello")
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "hello to /v1.41/exec/1/start, <nil>" {
		t.Errorf("read %q from the upgraded connection, %v", got, err)
	}
}

// The proxy passes each part of a stream on at once.
func TestStreamIsFlushed(t *testing.T) {
	read := make(chan struct{})
	c := through(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-read
		fmt.Fprintln(w, "second")
	})
	send(t, c, "GET /events HTTP/1.1\r\nHost: docker\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(response.Body)
	if line, err := body.ReadString('\n'); line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	close(read)
	if line, err := body.ReadString('\n'); line != "second\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestDockerIsNotThere(t *testing.T) {
	c := through(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	send(t, c, "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Message string }
	err = json.NewDecoder(response.Body).Decode(&answer)
	if err != nil || response.StatusCode != http.StatusBadGateway || answer.Message == "" {
		t.Errorf("answer %s %+v, %v", response.Status, answer, err)
	}
}
