package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

const (
	// maxBody is the size in bytes of the largest request that is read; the Engine's have some hundreds.
	maxBody = 1 << 20
	// callTimeout is how long a call may take: the Engine gives one up after 30 s.
	callTimeout = 20 * time.Second
)

// errorReply tells the Engine why a call failed: its network side reads Err, its IPAM side Error.
type errorReply struct {
	Err   string
	Error string
}

// handle makes the Engine's call known to the mux: the request is read and checked, fn called with a deadline, its
// answer or error sent and logged, an answer at level. Nothing but handle logs what goes wrong in a call.
func handle[Req, Resp any](s *socket, level logrus.Level, call string, fn func(context.Context, *Req) (Resp, error)) {
	s.mux.HandleFunc("POST /"+call, func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		log := s.log.WithField("call", call)

		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			refuse(w, log, http.StatusBadRequest, fmt.Errorf("%s: read the request: %w", call, err))
			return
		}
		log.WithField("body", string(body)).Debug("request")
		req := new(Req)
		if err := decode(body, req); err != nil {
			refuse(w, log, http.StatusBadRequest, fmt.Errorf("%s: %w", call, err))
			return
		}
		log = log.WithFields(idFields(req))

		// A call that has begun is finished, even if the Engine goes away: what it changed and what it recorded agree.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
		defer cancel()
		resp, err := fn(ctx, req)
		log = log.WithField("took", time.Since(started))
		if err != nil {
			refuse(w, log, http.StatusInternalServerError, err)
			return
		}
		body = reply(w, http.StatusOK, resp)
		log.Log(level, "done")
		log.WithField("body", string(body)).Debug("reply")
	})
}

// faults are the errors for which the request is to blame, not weave.
var faults = []error{
	driver.ErrInvalid, driver.ErrNotFound, driver.ErrConflict, driver.ErrFull,
	ipam.ErrInvalid, ipam.ErrForeignAddress, ipam.ErrAddressInUse, ipam.ErrPoolOverlap, ipam.ErrPoolUnknown, ipam.ErrPoolExhausted,
}

// refuse answers a call with err and logs it: as a warning if the request was at fault, else as an error.
func refuse(w http.ResponseWriter, log *logrus.Entry, status int, err error) {
	level := logrus.ErrorLevel
	if status == http.StatusBadRequest || slices.ContainsFunc(faults, func(fault error) bool { return errors.Is(err, fault) }) {
		level = logrus.WarnLevel
	}
	log.WithError(err).Log(level, "call failed")
	reply(w, status, errorReply{Err: err.Error(), Error: err.Error()})
}

// reply sends v, which must be one that encodes, and returns what was sent.
func reply(w http.ResponseWriter, status int, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode a %T: %v", v, err)) // a defect: recovered, logged and answered as such
	}
	w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
	w.WriteHeader(status)
	_, _ = w.Write(body) // an Engine that has gone away needs no answer
	return body
}

// errNoBody refuses a call without a body. The Engine repeats a call whose connection broke, but has already used its
// body up; so this one's predecessor began and its end is unknown.
var errNoBody = errors.New("the request is empty: weave stopped while it worked on an earlier try of this call; " +
	"nothing was changed now, repeat the command")

// decode reads body, one JSON object and nothing after it, into req, and checks the ids that it names. Fields that req
// does not have are passed over: newer Engines send more.
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
	for _, name := range idNames {
		if id, ok := idOf(req, name); ok && !idPattern.MatchString(id) {
			return fmt.Errorf("%s %.80q: want 12 to 64 letters and digits", name, id)
		}
	}
	return nil
}

// idPattern is what an id must look like. Docker's have 64 hexadecimal digits, Swarm's 25 of [0-9a-z]; the driver names
// links after the first of them and so needs enough.
var idPattern = regexp.MustCompile(`^[0-9A-Za-z]{12,64}$`)

var idNames = []string{"NetworkID", "EndpointID"}

// idOf returns the id in req's field of that name; no such field: false.
func idOf(req any, name string) (string, bool) {
	field := reflect.ValueOf(req).Elem().FieldByName(name)
	if !field.IsValid() {
		return "", false
	}
	return field.String(), true
}

// idFields returns the ids in req as fields of the log.
func idFields(req any) logrus.Fields {
	fields := logrus.Fields{}
	if id, ok := idOf(req, "NetworkID"); ok {
		fields["network"] = id
	}
	if id, ok := idOf(req, "EndpointID"); ok {
		fields["endpoint"] = id
	}
	return fields
}

// recovered answers a request whose handler panics, and logs where: one defect must not end everybody's calls, and an
// Engine that sees its connection break repeats the call without a body.
func recovered(log *logrus.Entry, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(p)
			}
			log.WithFields(logrus.Fields{"path": r.URL.Path, "stack": string(debug.Stack())}).Errorf("panic: %v", p)
			msg := fmt.Sprintf("%s: a defect in weave: %v; please report it with weave's log", r.URL.Path, p)
			reply(w, http.StatusInternalServerError, errorReply{Err: msg, Error: msg})
		}()
		next.ServeHTTP(w, r)
	})
}
