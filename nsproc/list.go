// SPDX-License-Identifier: Apache-2.0

package main

import (
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
	return conn.Dump(what.Routes, what.Neighbours)
}
