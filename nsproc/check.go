// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netns"
)

// errOutside means that nsproc has not entered the namespace that it was given.
var errOutside = errors.New("nsproc is not in the namespace that it was given: it was built without its entry point; " +
	"build it with -ldflags '-E weave_nsproc_entry'")

// errHost means that nsproc was given the host's own namespace, where it must not work.
var errHost = errors.New("the namespace that nsproc was given is the host's own, not a container's")

// checkNamespace returns an error unless the calling thread is in the network namespace that fd is open on, and that is
// not the host's. The other threads of this process are in the same namespace, since none of them ever changes it.
func checkNamespace(fd int) error {
	here, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open this thread's namespace: %w", err)
	}
	defer here.Close()
	if !here.Equal(netns.NsHandle(fd)) {
		return errOutside
	}
	return checkNotHost(here)
}

// checkNotHost returns errHost if the plugin, the parent of this process, is in the same network namespace: the plugin
// is always in the host's. It has made sure of it itself (package sandbox), so a parent that has ended or can't be
// looked at is no reason to refuse.
func checkNotHost(here netns.NsHandle) error {
	host, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", os.Getppid()))
	if err != nil {
		return nil
	}
	defer host.Close()
	if here.Equal(host) {
		return errHost
	}
	return nil
}
