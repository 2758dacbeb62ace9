// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/trace"
)

// traceFailures returns what writes to the log what an nsproc that has failed and the kernel have said to each other;
// nil, so that nothing is recorded, unless the log's level is trace.
func traceFailures(log *logrus.Entry) func(launch.Run) {
	if !log.Logger.IsLevelEnabled(logrus.TraceLevel) {
		return nil
	}
	return func(run launch.Run) {
		if run.Err == nil {
			return
		}
		log := log.WithField("sandbox", run.Sandbox)
		log.WithError(run.Err).WithField("took", run.Took).
			Trace("nsproc failed: what it and the kernel have said follows")
		for _, line := range trace.Lines(run.Datagrams) {
			log.Trace(line)
		}
	}
}
