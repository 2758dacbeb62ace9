// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// list returns what is in this namespace as the kernel's messages, for rtnl.Decode in the plugin.
func list(what protocol.List, recorder *record.Recorder) ([]byte, error) {
	conn, err := rtnl.DialRecorded(recorder)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	dump, err := conn.Dump(rtnl.Wanted{Routes: what.Routes, Neighbours: what.Neighbours, Rules: what.Rules})
	if err != nil || !what.Sockets {
		return dump, err
	}
	sockets, err := rtnl.DumpSockets(recorder)
	if errors.Is(err, rtnl.ErrRefused) {
		return dump, nil // by a kernel without sock_diag; the rest is known all the same
	}
	return append(dump, sockets...), err
}
