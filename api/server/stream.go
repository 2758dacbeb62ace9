// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/http"
	"time"
)

// fileTime is how long a client may take for a piece of what it writes to a file: one that is stuck ends the stream. It
// is shorter than the time that weave has to stop.
const fileTime = 5 * time.Second

// stream writes to a client, each piece at once, and gives up on one that is stuck.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // of one piece
}

func newStream(w http.ResponseWriter, timeout time.Duration) stream {
	return stream{w, http.NewResponseController(w), timeout}
}

// Write writes a piece, which the client has to read soon. The server's own time for an answer may be over by now.
func (s stream) Write(b []byte) (int, error) {
	err := s.control.SetWriteDeadline(time.Now().Add(s.timeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}
