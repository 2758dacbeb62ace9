// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/record"
)

// What a failed nsproc and the kernel have said is in a log of the level trace, and recorded for no other.
func TestTraceFailures(t *testing.T) {
	log, hook := logrustest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	if traceFailures(logrus.NewEntry(log)) != nil {
		t.Error("recorded at level debug")
	}
	log.SetLevel(logrus.TraceLevel)
	see := traceFailures(logrus.NewEntry(log))
	run := launch.Run{
		Sandbox:   "/var/run/docker/netns/1",
		Datagrams: []record.Datagram{{Sent: true, Protocol: unix.NETLINK_ROUTE, Messages: []byte("gibberish")}},
	}
	see(run)
	if n := len(hook.AllEntries()); n > 0 {
		t.Errorf("%d entries without a failure", n)
	}
	run.Err = errors.New("configure: no such device")
	see(run)
	entries := hook.AllEntries()
	if len(entries) != 2 || entries[0].Data[logrus.ErrorKey] != run.Err || entries[0].Data["sandbox"] != run.Sandbox ||
		!strings.Contains(entries[1].Message, "> 9 bytes") {
		t.Errorf("got %+v, want the error and what was said", entries)
	}
}
