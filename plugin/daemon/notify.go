// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

// notify sends systemd a state of weave, as sd_notify(3) defines them, if systemd has started weave and waits for that
// (Type=notify). A failure is logged and no more: what follows from it is systemd's to decide.
func notify(state string, log *logrus.Entry) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.WithError(err).Warn("systemd could not be notified of " + state)
	}
}
