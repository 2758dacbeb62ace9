package daemon

import (
	systemd "github.com/coreos/go-systemd/daemon"
	"github.com/sirupsen/logrus"
)

// notify tells systemd how far weave is, in the words of sd_notify(3), if systemd has started it and waits for that
// (Type=notify). A failure is told and no more: what then happens is systemd's to decide.
func notify(state string, log *logrus.Entry) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.WithError(err).Warn("systemd could not be told " + state)
	}
}
