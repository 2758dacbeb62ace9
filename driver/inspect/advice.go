// SPDX-License-Identifier: Apache-2.0

package inspect

import "github.com/weaveplugin/weave/api"

// Advice says in words what to do about a kind of drift.
func Advice(kind api.DriftKind) string {
	const restart = "restart the container"
	switch kind {
	case api.HostEndMissing:
		return "somebody has removed the veth pair: " + restart
	case api.HostEndDown, api.BridgeDown, api.WrongBridge, api.HostEndBlocked:
		return "weave puts that right within a minute; if it does not, weave status says who changes it again"
	case api.SandboxUnreadable:
		return "if the container runs, see that weave has the host's /var/run/docker/netns (docs/managed-plugin.md); " +
			"weave nsproc --trace shows what fails"
	case api.ContainerEndMissing:
		return "it was moved or removed inside the container: " + restart
	case api.ContainerEndDown:
		return "set it up inside the container, or " + restart
	case api.MACChanged:
		return "a program in the container has changed it, which the neighbours notice late: " + restart
	case api.AddressMissing:
		return "a program in the container has removed it: " + restart
	case api.AddressUnexpected:
		return "another container may be given this address: remove it in the container, or reserve it with " +
			"docker network create --aux-address"
	case api.NotObserved:
		return "the host is busy: try again"
	}
	return ""
}
