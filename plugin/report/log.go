// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"maps"
	"sync"

	"github.com/sirupsen/logrus"
)

// maxLog is how much of the log is kept, in bytes.
const maxLog = 1 << 20

// secretFields are those of log entries that carry what users have given to Docker.
var secretFields = []string{"body"}

// Log is a hook that keeps the end of a log. Its methods may be called from several goroutines at once.
type Log struct {
	format logrus.TextFormatter

	mu    sync.Mutex
	lines [][]byte // the oldest first
	size  int      // of the lines, in bytes
}

// NewLog returns an empty Log.
func NewLog() *Log {
	return &Log{format: logrus.TextFormatter{DisableColors: true, FullTimestamp: true}}
}

// Levels returns all levels: those that the log does not have don't come.
func (l *Log) Levels() []logrus.Level { return logrus.AllLevels }

// Fire keeps an entry, without its secret fields.
func (l *Log) Fire(e *logrus.Entry) error {
	kept := *e
	kept.Data = maps.Clone(e.Data)
	for _, f := range secretFields {
		delete(kept.Data, f)
	}
	kept.Buffer = nil // which belongs to the entry's own formatter
	line, err := l.format.Format(&kept)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, bytes.Clone(line))
	for l.size += len(line); l.size > maxLog && len(l.lines) > 0; l.lines = l.lines[1:] {
		l.size -= len(l.lines[0])
	}
	return nil
}

// Bytes returns what is kept.
func (l *Log) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Join(l.lines, nil)
}
