// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
)

// answerTimeout is when a call is answered at the latest: the work of one that has not ended a second after its time is
// over waits for what can't be interrupted.
const answerTimeout = callTimeout + time.Second

// errStalled is the answer to a call whose work does not end.
var errStalled = errors.New("it has not ended in time: does the disk that has weave's state answer? " +
	"Repeat the command when it does; what this one leaves is removed later")

// awaitEnd calls work, which ends with the call's context unless it waits for what can't be interrupted, such as a
// write to a disk that stalls. It returns what work returns, or errStalled after answerTimeout. Work then ends later,
// when its next step finds that its time is over.
func awaitEnd[T any](log *logrus.Entry, work func() (T, error)) (T, error) {
	type end struct {
		value    T
		err      error
		panicked any
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		defer func() {
			if e.panicked = recover(); e.panicked != nil {
				log.WithField("stack", string(debug.Stack())).Errorf("panic: %v", e.panicked)
			}
			ended <- e
		}()
		e.value, e.err = work()
	}()
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case e := <-ended:
		if e.panicked != nil {
			panic(e.panicked) // the daemon recovers and answers it
		}
		return e.value, e.err
	case <-timer.C:
		go func() {
			e := <-ended
			log.WithError(e.err).Warn("a call that was answered before has ended")
		}()
		var none T
		return none, errStalled
	}
}
