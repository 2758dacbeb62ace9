package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errOutside = errors.New("nsproc is not in the namespace that it was given: it was built without its entry point; " +
	"build it with -ldflags '-E weave_nsproc_entry'")

// checkNamespace reports whether this process, and this thread of it, is in the network namespace that fd is open on.
func checkNamespace(fd int) error {
	var want unix.Stat_t
	if err := unix.Fstat(fd, &want); err != nil {
		return fmt.Errorf("look at the namespace passed as descriptor %d: %w", fd, err)
	}
	for _, path := range []string{"/proc/self/ns/net", "/proc/thread-self/ns/net"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return fmt.Errorf("stat %s: %w", path, err)
		}
		if st.Dev != want.Dev || st.Ino != want.Ino {
			return errOutside
		}
	}
	return nil
}
