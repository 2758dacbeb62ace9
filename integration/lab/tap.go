// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside calls f on a thread that is in a network namespace, which is named by its path. A socket that f opens belongs
// to the namespace and can be used afterwards.
func Inside(namespace string, f func() error) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread, which is inside, ends with this goroutine
		var ns *os.File
		if ns, err = os.Open(namespace); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	<-done
	return err
}

// addTap adds an Ethernet device to the network namespace of process pid, and returns the file from which its frames
// are read and to which they are written. The device goes when the file is closed; when the namespace ends before, the
// file has errors only.
func addTap(pid int, name string) (tap *os.File, err error) {
	err = Inside(fmt.Sprintf("/proc/%d/ns/net", pid), func() error {
		tap, err = openTap(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add the tap %s: %w", name, err)
	}
	return tap, nil
}

func openTap(name string) (*os.File, error) {
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), device), nil
}
