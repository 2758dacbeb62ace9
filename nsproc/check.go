package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netns"
)

var errOutside = errors.New("nsproc is not in the namespace that it was given: it was built without its entry point; " +
	"build it with -ldflags '-E weave_nsproc_entry'")

// checkNamespace reports whether the calling thread is in the network namespace that fd is open on, by device and inode.
// All other threads of this process come from one that entered it, or from one that did not.
func checkNamespace(fd int) error {
	here, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("look at this thread's namespace: %w", err)
	}
	defer here.Close()
	if !here.Equal(netns.NsHandle(fd)) {
		return errOutside
	}
	return nil
}
