// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// lowSpace is how many bytes have to be free where the state is: enough for some thousand records. The file grows in
// larger pieces than the records that are added.
const lowSpace = 4 << 20

// diskWarning returns a warning if the state at path can't be written, or soon not any more, else an empty text.
func diskWarning(path string) string {
	dir := filepath.Dir(path)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Sprintf("%s, where weave keeps its state, can't be looked at: %v", dir, err)
	}
	free := fs.Bavail * uint64(fs.Bsize)
	switch {
	case fs.Flags&unix.ST_RDONLY != 0:
		return fmt.Sprintf("%s, where weave keeps its state, is read-only, so nothing can be created or removed: "+
			"mount it for writing (mount -o remount,rw)", dir)
	case free < lowSpace:
		return fmt.Sprintf("%s, where weave keeps its state, has %d kB left, and creating networks or containers "+
			"fails without: free some space there", dir, free>>10)
	}
	return ""
}

// wayOutWarning returns a warning if Docker knows of driver.WayOut, which is not there although containers need it,
// else an empty text. As long as Docker has not made it, or has removed it, no container needs it.
func wayOutWarning(known bool, networks []driver.Network, endpoints []driver.Endpoint) string {
	if !known {
		return ""
	}
	if _, err := net.InterfaceByName(driver.WayOut); err == nil {
		return ""
	}
	for _, way := range driver.WaysOut(networks, endpoints) {
		if strings.HasPrefix(way, string(driver.GatewayDocker)) {
			return driver.WayOut + " is gone, over which containers reach the outside and are reached on published " +
				"ports: restart Docker, which makes it again, and then the containers"
		}
	}
	return ""
}

// poolPatience is how long a pool may be without its network: Docker requests it before it makes the network.
const poolPatience = time.Minute

// strayPoolWarnings returns a warning for each pool of a network of the cluster that is no network of weave's here:
// Docker does not tell an IPAM driver which network driver the addresses are for.
func strayPoolWarnings(pools []ipam.Pool, isNetwork func(cluster string) bool, now time.Time) (out []string) {
	for _, p := range pools {
		if p.Network != "" && !isNetwork(p.Network) && now.Sub(p.Created) > poolPatience {
			out = append(out, fmt.Sprintf("pool %s is of network %s of the cluster, but that is no network of weave's "+
				"here, so containers with its addresses reach none on other hosts: make their network again with -d "+
				"weave, or without --ipam-opt %s=%s", p.Subnet, p.Network, driver.OptionNetwork, p.Network))
		}
	}
	return out
}
