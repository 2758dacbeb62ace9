package main

import (
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// list is all that is in this namespace.
func list() (*netstate.Snapshot, error) {
	conn, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var s netstate.Snapshot
	if s.Links, err = conn.Links(rtnl.Here); err != nil {
		return nil, err
	}
	if s.Routes, err = conn.Routes(); err != nil {
		return nil, err
	}
	if s.Neighbours, err = conn.Neighbours(); err != nil {
		return nil, err
	}
	return &s, nil
}
