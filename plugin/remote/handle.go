// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

const (
	// maxBody is the size in bytes of the largest request that is read; Docker's have some hundreds.
	maxBody = 1 << 20
	// callTimeout is how long the work of a call may take: Docker gives a call up after 30 s, of which a call may spend
	// some waiting for the start to finish.
	callTimeout = 20 * time.Second
)

// handle adds a call: the request is read and checked, fn called with a deadline, its answer or error sent and logged,
// an answer at level. Nothing but handle logs what goes wrong in a call.
func handle[Req, Resp any](r routes, level logrus.Level, call string, fn func(context.Context, *Req) (Resp, error)) {
	r.mux.HandleFunc("POST /"+call, func(w http.ResponseWriter, httpReq *http.Request) {
		started := time.Now()
		log := r.log.WithField("call", call)
		answered := Call{Name: call}
		defer func() {
			answered.Took = time.Since(started)
			r.called(answered)
		}()
		fail := func(err error) {
			answered.Err = err
			fail(w, log, call, err)
		}

		body, err := io.ReadAll(http.MaxBytesReader(w, httpReq.Body, maxBody))
		if err != nil {
			fail(badRequest{fmt.Errorf("read the request: %w", err)})
			return
		}
		log.WithField("body", string(body)).Debug("request")
		req := new(Req)
		if err := decode(body, req); err != nil {
			fail(badRequest{err})
			return
		}
		answered.Network, answered.Endpoint = idsOf(body)
		log = withIDs(log, answered)

		// A call that has begun is finished even if Docker goes away, so that what it changed and what it recorded
		// agree.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(httpReq.Context()), callTimeout)
		defer cancel()
		ctx = driver.WithCause(ctx, driver.Cause{Kind: driver.CauseDocker, By: call})
		resp, err := awaitEnd(log, func() (Resp, error) { return fn(ctx, req) })
		log = log.WithField("took", time.Since(started))
		if err != nil {
			fail(r.rechecked(err))
			return
		}
		body = reply(w, http.StatusOK, resp)
		log.Log(level, "done")
		log.WithField("body", string(body)).Debug("reply")
	})
}

// badRequest is the error of a request that is malformed: driver and IPAM were not called.
type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

// clientErrors are the errors that the request causes, not weave.
var clientErrors = []error{
	driver.ErrInvalid, driver.ErrNotFound, driver.ErrConflict, driver.ErrFull,
	ipam.ErrInvalid, ipam.ErrForeignAddress, ipam.ErrAddressInUse, ipam.ErrPoolOverlap, ipam.ErrPoolUnknown,
	ipam.ErrPoolExhausted,
}

// outOfDateErrors are the errors of requests that contradict what weave tracks. Docker forgets networks and endpoints
// without a call when it is killed, when its files are removed, or while weave is away; and an older state of weave's
// lacks what was made since.
var outOfDateErrors = []error{
	driver.ErrNotFound, driver.ErrConflict,
	ipam.ErrAddressInUse, ipam.ErrPoolOverlap, ipam.ErrPoolUnknown, ipam.ErrPoolExhausted,
}

// rechecked returns err. If what weave tracks may be the reason and be out of date, it has Docker asked, and says so.
func (r routes) rechecked(err error) error {
	if !slices.ContainsFunc(outOfDateErrors, func(kind error) bool { return errors.Is(err, kind) }) || !r.recheck() {
		return err
	}
	return fmt.Errorf("%w (weave asks Docker now whether this is still so: if not, it works in some seconds)", err)
}

// fail answers a call with err and logs it: as a warning if the request caused it, otherwise as an error.
func fail(w http.ResponseWriter, log *logrus.Entry, call string, err error) {
	status, level := http.StatusInternalServerError, logrus.ErrorLevel
	if slices.ContainsFunc(clientErrors, func(kind error) bool { return errors.Is(err, kind) }) {
		level = logrus.WarnLevel
	}
	if bad, ok := errors.AsType[badRequest](err); ok {
		status, level = http.StatusBadRequest, logrus.WarnLevel
		err = fmt.Errorf("%s: %w", call, bad.error)
	}
	log.WithError(err).Log(level, "call failed")
	writeError(w, status, err)
}

// Refuse answers a request with err, in the form that Docker reads. Docker makes no difference between statuses of
// failure, and gets 500.
func Refuse(w http.ResponseWriter, _ int, err error) {
	writeError(w, http.StatusInternalServerError, err)
}

// errorReply is what Docker reads of a call that failed: its network side reads Err, its IPAM side Error.
type errorReply struct {
	Err   string
	Error string
}

func writeError(w http.ResponseWriter, status int, err error) {
	reply(w, status, errorReply{Err: err.Error(), Error: err.Error()})
}

// reply sends v, which must be one that encodes, and returns what was sent.
func reply(w http.ResponseWriter, status int, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode a %T: %v", v, err)) // a defect: the daemon recovers, logs and answers it
	}
	w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a Docker that has gone away needs no answer
	return body
}

// errNoBody refuses a call without a body. Docker repeats a call whose connection broke, but has already used up its
// body; so an earlier try of the call had begun and how it ended is unknown.
var errNoBody = errors.New("the request is empty: weave stopped while it worked on an earlier try of this call; " +
	"nothing was changed now, repeat the command")

// decode reads body, one JSON object and nothing after it, into req. Fields that req does not have are passed over,
// since newer versions of Docker send more.
func decode(body []byte, req any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return errNoBody
	}
	if err := json.Unmarshal(body, req); err != nil {
		return fmt.Errorf("decode the request: %w", err)
	}
	if bytes.TrimSpace(body)[0] != '{' {
		return errors.New("decode the request: want a JSON object")
	}
	return nil
}

// idsOf returns the ids of a network and of an endpoint that a request names; they are not checked yet, but not long.
func idsOf(body []byte) (network, endpoint string) {
	var ids struct{ NetworkID, EndpointID string }
	_ = json.Unmarshal(body, &ids) // what has no ids, or none that are text, names none
	return fmt.Sprintf("%.80s", ids.NetworkID), fmt.Sprintf("%.80s", ids.EndpointID)
}

// withIDs returns the log with the ids that a call names as fields.
func withIDs(log *logrus.Entry, c Call) *logrus.Entry {
	if c.Network != "" {
		log = log.WithField("network", c.Network)
	}
	if c.Endpoint != "" {
		log = log.WithField("endpoint", c.Endpoint)
	}
	return log
}
