// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// PathCapture is where a capture is requested; its answer is a stream of pcapng.
const PathCapture = "/v1/capture"

// The names of a capture's parameters in a URL, and of the headers of its answer.
const (
	ParamFilter  = "filter"
	ParamPackets = "packets"
	ParamBytes   = "bytes"
	ParamSeconds = "seconds"

	// The texts are quoted, as Go's strconv.QuoteToASCII does it.
	HeaderProblem = "Weave-Problem" // once for each of the problems
	TrailerError  = "Weave-Error"   // why the stream has ended; empty: a limit was reached
)

// MaxCaptureTime is how long one capture can last.
const MaxCaptureTime = time.Hour

// Capture says what is captured, and how much of it. A zero is no limit but MaxCaptureTime.
type Capture struct {
	// Endpoints are one or two, named as for Client.Inspect. Of one all is captured, of two what passes between them.
	Endpoints []string
	Filter    string // in the language of pcap-filter(7), as far as package capture/filter of weave knows it
	Packets   int
	Bytes     int64         // of frames
	Time      time.Duration // rounded up to full seconds
}

// Capture writes a capture of what passes an endpoint, or between two, to w as pcapng: an interface for the container
// end and one for the host end of each, named. It returns when a limit is reached, ctx ends, which is no error, or w
// fails. Problem, which may be nil, is called before that with each end that can't be captured. Only root can do that.
func (c *Client) Capture(ctx context.Context, w io.Writer, what Capture, problem func(string)) error {
	parameters := url.Values{ParamEndpoint: what.Endpoints}
	for name, value := range map[string]int64{
		ParamPackets: int64(what.Packets), ParamBytes: what.Bytes,
		ParamSeconds: int64((what.Time + time.Second - 1) / time.Second),
	} {
		if value != 0 {
			parameters.Set(name, strconv.FormatInt(value, 10))
		}
	}
	if what.Filter != "" {
		parameters.Set(ParamFilter, what.Filter)
	}
	err := c.stream(ctx, w, url.URL{Path: PathCapture, RawQuery: parameters.Encode()}, problem)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stream requests what is written to w as it comes. Problem, which may be nil, is called before that with each problem
// that the answer's header has.
func (c *Client) stream(ctx context.Context, w io.Writer, u url.URL, problem func(string)) error {
	u.Scheme, u.Host = "http", "weave"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return fmt.Errorf("request %s: %w", u.Path, err)
	}
	resp, err := c.http.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil
	case err != nil:
		return c.explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return c.explain(err)
		}
		return decode(resp.StatusCode, body, nil)
	}
	for _, text := range resp.Header.Values(HeaderProblem) {
		if problem != nil {
			problem(unquoted(text))
		}
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the answer to %s: %w", u.Path, err)
	}
	if text := resp.Trailer.Get(TrailerError); text != "" {
		return errors.New(unquoted(text))
	}
	return nil
}

// unquoted returns what a text in quotes stands for.
func unquoted(text string) string {
	if plain, err := strconv.Unquote(text); err == nil {
		return plain
	}
	return text
}
