// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"runtime/pprof"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/plugin/daemon"
	"github.com/weaveplugin/weave/plugin/report"
)

// about is the first file of a report.
const about = `What weave and the kernel say of this host's networks, for a report of a fault.

settings.json   how weave is configured; passwords and keys are in files, whose paths are here
*.json          what weave's API answers
inspect/        everything about each endpoint
kernel/         the host's links, routes and settings
log.txt         the end of weave's log, without what Docker's calls carry
goroutines.txt  what weave is doing

The environment is not in it, nor anything of what is in containers but addresses, routes and open ports. It has names
of containers and networks, addresses and MACs: look through it before you send it to somebody.
`

// maxInspected is of how many endpoints everything is in a report.
const maxInspected = 50

// reportSources returns what a report consists of. The API's answers are those of handler.
func reportSources(
	cfg daemon.Config, handler http.Handler, inspector *inspect.Inspector, log *report.Log, networks *driver.Driver,
) []report.Source {
	fixed := func(b []byte, err error) func(context.Context) ([]byte, error) {
		return func(context.Context) ([]byte, error) { return b, err }
	}
	sources := []report.Source{
		{Name: "README.txt", Read: fixed([]byte(about), nil)},
		{Name: "settings.json", Read: fixed(json.MarshalIndent(cfg, "", "  "))},
	}
	answer := func(path string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) { return ask(ctx, handler, path) }
	}
	for name, path := range map[string]string{
		"status": api.PathStatus, "networks": api.PathNetworks, "endpoints": api.PathEndpoints + "?live=kernel",
		"pools": api.PathPools, "hosts": api.PathHosts, "cluster": api.PathCluster,
	} {
		sources = append(sources, report.Source{Name: name + ".json", Read: answer(path)})
	}
	endpoints := networks.Endpoints()
	for _, e := range endpoints[:min(len(endpoints), maxInspected)] {
		sources = append(sources, report.Source{
			Name: fmt.Sprintf("inspect/%.12s.json", e.ID), Read: answer(api.PathEndpoints + "/" + string(e.ID)),
		})
	}
	for name, path := range map[string]string{
		"version": "/proc/version", "modules": "/proc/modules", "mounts": "/proc/self/mountinfo",
		"process": "/proc/self/status", "limits": "/proc/self/limits",
	} {
		sources = append(sources, report.Source{
			Name: "kernel/" + name + ".txt",
			Read: func(context.Context) ([]byte, error) { return readFile(path) },
		})
	}
	return append(sources,
		report.Source{Name: "kernel/host.txt", Read: inspector.DescribeHost},
		report.Source{Name: "goroutines.txt", Read: func(context.Context) ([]byte, error) {
			var b bytes.Buffer
			err := pprof.Lookup("goroutine").WriteTo(&b, 1)
			return b.Bytes(), err
		}},
		report.Source{Name: "log.txt", Read: func(context.Context) ([]byte, error) { return log.Bytes(), nil }},
	)
}

// readFile returns what is in a file of the kernel's. One that is not there is none, as /proc/modules is not where
// nothing of the kernel is a module.
func readFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []byte("the kernel has no " + path + "\n"), nil
	}
	return b, err
}

// ask returns what a handler of the API answers.
func ask(ctx context.Context, handler http.Handler, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weave"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	a := answer{header: http.Header{}}
	handler.ServeHTTP(&a, r)
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", a.status, a.body.Bytes())
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, a.body.Bytes(), "", "  "); err != nil {
		return a.body.Bytes(), err
	}
	return indented.Bytes(), nil
}

// answer is an http.ResponseWriter that keeps an answer.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}
