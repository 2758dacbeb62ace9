package main

import (
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// list is what is in this namespace, in the kernel's words: the plugin decodes them, nsproc is the sooner done.
func list(what protocol.List) ([]byte, error) {
	conn, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Dump(what.Routes, what.Neighbours)
}
