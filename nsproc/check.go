// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netns"
)

// errOutside means that nsproc has not entered the namespace that it was given.
var errOutside = errors.New("nsproc is not in the namespace that it was given: it was built without its entry point; " +
	"build it with -ldflags '-E weave_nsproc_entry'")

// checkNamespace returns an error unless the calling thread is in the network namespace that fd is open on. The other
// threads of this process are in the same namespace, since none of them ever changes it.
func checkNamespace(fd int) error {
	here, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open this thread's namespace: %w", err)
	}
	defer here.Close()
	if !here.Equal(netns.NsHandle(fd)) {
		return errOutside
	}
	return nil
}
