// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/weaveplugin/weave/api"
)

// Caller calls a plugin as Docker does, on a host without Docker.
type Caller struct{ client *http.Client }

// Caller returns a Caller of the plugin on the host. It is good until the host's next boot.
func (h *Host) Caller() *Caller {
	transport := api.UnixTransport(h.Path(PluginSocket))
	transport.MaxIdleConnsPerHost = 64
	return &Caller{&http.Client{Transport: transport, Timeout: commandTimeout}}
}

// ErrRefused says that the plugin has answered with an error.
var ErrRefused = errors.New("the plugin refuses")

// Call makes a call, and decodes the reply into response if that is not nil. It is ErrRefused if the plugin answers so.
func (c *Caller) Call(ctx context.Context, call string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weave/"+call, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	reply, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w: %s: %s", call, ErrRefused, answer.Status, reply)
	}
	if response == nil {
		return nil
	}
	return json.Unmarshal(reply, response)
}

// NewID returns an id like Docker's.
func NewID() string {
	id := make([]byte, 32)
	rand.Read(id) // never fails, see its documentation
	return hex.EncodeToString(id)
}
