package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netns"
)

var errOutside = errors.New("nsproc is not in the namespace that it was given: it was built without its entry point; " +
	"build it with -ldflags '-E weave_nsproc_entry'")

// checkNamespace reports whether this process, and this thread of it, is in the network namespace that fd is open on: by
// device and inode.
func checkNamespace(fd int) error {
	process, err := netns.GetFromPid(os.Getpid())
	if err != nil {
		return fmt.Errorf("look at this process's namespace: %w", err)
	}
	defer process.Close()
	thread, err := netns.Get()
	if err != nil {
		return fmt.Errorf("look at this thread's namespace: %w", err)
	}
	defer thread.Close()
	if given := netns.NsHandle(fd); !process.Equal(given) || !thread.Equal(given) {
		return errOutside
	}
	return nil
}
